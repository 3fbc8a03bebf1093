"""The timeline: folded as far as needed, with what matters standing alone, as a person sees it."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from agent.cli import terminal
from agent.cli.timeline import _show, _tell
from agent.control.gate_messages import Attack, Timeline
from agent.errors import ConfigInvalid
from agent.gate.timeline import MOST_POINTS, PAUSE_NS, Chain, attacks_on, timeline
from agent.model.ids import HostId, SnapshotId, VaultId
from agent.model.snapshot import Changes, Sign, Snapshot, SnapshotInfo

HOST = HostId(b"h" * 16)
MINUTE_NS = 60 * 10**9
START_NS = int(datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()) * 10**9
LOST = Sign("lost-dicom", 40, 1000, 60)
CALM = Changes(added=2, changed=1, added_bytes=2000, changed_bytes=500)


def info(
    sequence: int, *signs: Sign, changes: Changes | None = CALM, at_ns: int = 0, host: HostId = HOST
) -> SnapshotInfo:
    """Return a snapshot, one a minute."""
    body = Snapshot(
        vault=VaultId(bytes(16)), host=host, sequence=sequence, previous=bytes(32), root=bytes(32),
        started_ns=0, taken_ns=at_ns or START_NS + sequence * MINUTE_NS, files=1000, bytes=10**9,
        added_bytes=100, changes=changes, signs=signs,
    )  # fmt: skip
    return SnapshotInfo(SnapshotId(host + sequence.to_bytes(16, "big")), body, 0)


def shown(answer: Timeline, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a person sees, in a terminal of 140 columns."""
    screen = StringIO()
    console = Console(file=screen, width=140, markup=False, emoji=False, highlight=False)
    monkeypatch.setattr("agent.cli.timeline.console", console)
    monkeypatch.setattr(terminal, "console", console)
    _show(answer)
    for attack in answer.attacks:
        _tell(attack)
    return screen.getvalue()


def test_few_snapshots_are_shown_one_by_one() -> None:
    """With what each of them counted."""
    answer = timeline([Chain("radiology", [info(1, changes=None), info(2)])])
    assert (answer.by, answer.attacks) == ("snapshot", ())
    first, second = answer.points
    assert (first.counted, second.counted) == (False, True)
    assert (second.added, second.changed, second.removed, second.new_bytes) == (2, 1, 0, 2500)
    assert second.stored_bytes == 100


def test_many_are_folded_and_nothing_is_lost_by_it() -> None:
    """By hours here: sums stay what they were."""
    chain = Chain("radiology", [info(n) for n in range(1, 1001)])
    answer = timeline([chain])
    assert answer.by == "hour"
    assert len(answer.points) <= MOST_POINTS
    assert sum(point.snapshots for point in answer.points) == 1000
    assert sum(point.added for point in answer.points) == 2000
    assert [point.by for point in (timeline([chain], unit) for unit in ("day", "month"))] == [
        "day", "month",
    ]  # fmt: skip


def test_where_an_attack_began_and_the_last_clean_snapshot_stand_alone() -> None:
    """However far the rest is folded; those with signs are apart from those without."""
    infos = [info(n) for n in range(1, 62)] + [info(n, LOST) for n in range(62, 70)]
    answer = timeline([Chain("radiology", [*infos, *(info(n) for n in range(70, 900))])], "day")
    (attack,) = answer.attacks
    assert (attack.began, attack.last_clean) == (infos[59].id.hex(), infos[58].id.hex())
    marks = [(p.mark, p.snapshots, bool(p.signs)) for p in answer.points]
    assert marks == [
        ("", 58, False), ("last clean", 1, False), ("began", 1, False), ("", 1, False),
        ("", 8, True), ("", 830, False),
    ]  # fmt: skip


def test_a_sign_after_a_day_without_any_is_another_attack() -> None:
    """Each has a last clean snapshot of its own; one at the very beginning has none."""
    later_ns = START_NS + 2 * PAUSE_NS
    chain = Chain("radiology", [
        info(1, Sign("canary", 1, 3, 1)), info(2), info(3, Sign("canary", 1, 3, 3), at_ns=later_ns),
    ])  # fmt: skip
    first, second = attacks_on(chain)
    assert (first.last_clean, second.last_clean) == ("", chain.infos[1].id.hex())


def test_began_is_the_oldest_that_is_left_where_retention_has_thinned() -> None:
    """The snapshot that a sign names may be gone."""
    chain = Chain("radiology", [info(50), info(61), info(62, LOST)])
    (attack,) = attacks_on(chain)
    assert (attack.began, attack.last_clean) == (chain.infos[1].id.hex(), chain.infos[0].id.hex())


def test_hosts_are_told_apart() -> None:
    """One host's attack says nothing of another's chain; the lines are in order of time."""
    other = HostId(b"o" * 16)
    chains = [
        Chain("radiology", [info(n) for n in (1, 3)]),
        Chain("radiology", [info(2, host=other), info(4, Sign("canary", 1), host=other)]),
    ]
    answer = timeline(chains)
    assert [point.sequence for point in answer.points] == [1, 2, 3, 4]
    assert [attack.host for attack in answer.attacks] == [other.hex()]


def test_another_unit_is_refused() -> None:
    """Whoever asks the gate may ask for anything."""
    with pytest.raises(ConfigInvalid):
        timeline([], "fortnight")


def test_a_person_sees_when_it_began_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last clean snapshot by its id, in a command to be copied."""
    attack = Changes(added=300, changed=400, removed=300)
    chain = [info(58), info(59), info(60, LOST, changes=attack), info(61, changes=None)]
    seen = shown(timeline([Chain("radiology", chain)]), monkeypatch)
    lines = seen.splitlines()
    assert "last clean" in lines[2]
    assert "70%" in lines[3]
    assert "lost-dicom 40 of 1,000" in lines[3]
    assert "?" in lines[4]
    assert f"vitrine restore radiology --at {chain[1].id.hex()[:12]} --target DIR" in seen


def test_a_person_is_told_where_nothing_clean_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command that could not work."""
    gone = Attack("radiology", "00", "ab" * 32, START_NS, "", 0)
    seen = shown(Timeline((), (gone,), "day"), monkeypatch)
    assert "No snapshot before it is left." in seen
    assert "vitrine restore" not in seen
