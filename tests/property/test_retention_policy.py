"""Retention's rules, tried on any chains: what must stay stays, and more rules keep more."""

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from agent.maintenance.retention.policy import Candidate, Rules, decide
from agent.model.ids import HostId, SnapshotId

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
NOW_NS = 1_795_500_000 * 10**9
HOSTS = (HostId(b"a" * 16), HostId(b"b" * 16))


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Draw chains of two hosts, received in order over some years."""
    found: list[Candidate] = []
    for host in HOSTS:
        ages = draw(st.lists(st.integers(0, 3 * 365 * 24), max_size=25))
        for sequence, hours in enumerate(sorted(ages, reverse=True), 1):
            name = SnapshotId(host + sequence.to_bytes(16, "big"))
            whole = draw(st.booleans())
            found.append(Candidate(name, host, sequence, NOW_NS - hours * HOUR_NS, whole))
    return found


rules = st.builds(
    Rules,
    *(st.integers(0, 5) for _ in range(5)),
    st.sampled_from([0, 2 * DAY_NS, 90 * DAY_NS]),
    st.sampled_from([0, 30 * DAY_NS, 400 * DAY_NS]),
)


def kept(history: list[Candidate], by: Rules, **more: object) -> set[SnapshotId]:
    """Return what is kept."""
    fates = decide(history, by, now_ns=NOW_NS, zone=UTC, held={}, **more)  # type: ignore[arg-type]
    assert len(fates) == len(history)
    assert all(fate.reasons for fate in fates), "every fate is explained"
    return {fate.candidate.id for fate in fates if fate.keep}


@given(histories(), rules, st.data())
def test_what_must_stay_stays(history: list[Candidate], by: Rules, data: st.DataObject) -> None:
    """Each host's newest, what is held or pinned, what the law wants, what is young."""
    ids = [one.id for one in history]
    chosen = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    fates = decide(
        history, by, now_ns=NOW_NS, zone=UTC, held=dict.fromkeys(chosen, "a lawsuit"), pinned=chosen
    )
    gone = {fate.candidate for fate in fates if not fate.keep}
    newest = {one.host: one.sequence for one in history}  # each chain is in order
    for one in gone:
        assert one.id not in chosen
        assert one.sequence != newest[one.host]
        assert NOW_NS - one.received_ns >= max(by.minimum_age_ns, by.newer_than_ns)


@given(histories(), rules)
def test_deciding_again_on_what_was_kept_keeps_it_all(history: list[Candidate], by: Rules) -> None:
    """One run after another removes nothing more."""
    first = kept(history, by)
    assert kept([one for one in history if one.id in first], by) == first


@given(histories(), rules, rules)
def test_more_rules_keep_more(history: list[Candidate], one: Rules, two: Rules) -> None:
    """Larger numbers never lose what smaller ones kept."""
    more = Rules(*(max(pair) for pair in zip(one, two, strict=True)))
    if one.remove_nothing or two.remove_nothing:
        return
    assert kept(history, one) | kept(history, two) <= kept(history, more)


@given(histories(), st.integers(1, 9))
def test_as_many_days_as_asked_for_are_kept(history: list[Candidate], days: int) -> None:
    """The newest n days that have a snapshot, each by one: not the last n of the calendar."""
    found = kept(history, Rules(daily=days))
    for host in HOSTS:
        chain = [one for one in history if one.host == host]
        have = {one.received_ns // DAY_NS for one in chain}
        left = {one.received_ns // DAY_NS for one in chain if one.id in found}
        assert left == set(sorted(have)[-days:])


@given(histories(), st.integers(1, 9))
def test_an_incomplete_one_never_takes_a_complete_ones_place(
    history: list[Candidate], days: int
) -> None:
    """A day with a complete snapshot keeps a complete one."""
    found = kept(history, Rules(daily=days))
    for host in HOSTS:
        chain = [one for one in history if one.host == host]
        for day in {one.received_ns // DAY_NS for one in chain if one.id in found}:
            of_day = [one for one in chain if one.received_ns // DAY_NS == day]
            if any(one.is_complete for one in of_day):
                assert any(one.is_complete for one in of_day if one.id in found)


@given(histories(), st.integers(0, 1000))
def test_no_rule_removes_nothing(history: list[Candidate], days: int) -> None:
    """A minimum age alone is no permission to remove."""
    assert len(kept(history, Rules(minimum_age_ns=days * DAY_NS))) == len(history)
