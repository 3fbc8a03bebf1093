"""What holds for every run of sessions."""

from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SessionExpired
from agent.gate.sessions import SessionTable
from tests.fakes.clock import FakeClock

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "touch", "end", "wait", "set clock"]), st.integers(1, 200)),
    max_size=60,
)


def used(table: SessionTable, session: str) -> bool:
    """Touch; tell whether the session was live."""
    try:
        table.touch(session)
    except SessionExpired:
        return False
    return True


@given(STEPS)
def test_sessions_follow_a_plain_model(steps: list[tuple[str, int]]) -> None:
    """A session is live exactly until its absolute limit, or its idle limit since the last use."""
    clock = FakeClock()
    table = SessionTable(clock)
    model: dict[str, tuple[float, float, int]] = {}  # id → ends, idle ends, idle limit
    for what, number in steps:
        now = clock.monotonic()
        chosen = list(model)[number % len(model)] if model else ""
        if what == "add":
            made = table.add("u", 1, "v", "unlock", limit_s=3 * number, idle_s=number)
            model[made.id] = (now + 3 * number, now + number, number)
        elif what == "wait":
            clock.advance(number)
        elif what == "set clock":
            clock.set_wall(number)
        elif chosen and what == "touch":
            ends, idle, limit = model[chosen]
            live = now < ends and now < idle
            assert used(table, chosen) == live
            if live:
                model[chosen] = (ends, now + limit, limit)
        elif chosen:
            table.end(chosen)
            del model[chosen]
        now = clock.monotonic()
        over = [name for name, (ends, idle, _) in model.items() if now >= min(ends, idle)]
        assert [due.session.id for due in table.due()] == over
        deadlines = [min(ends, idle) for ends, idle, _ in model.values()]
        assert table.next_deadline() == min(deadlines, default=None)
