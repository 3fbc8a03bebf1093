"""Sessions: two limits, moved by use but never by the wall clock."""

import pytest

from agent.errors import NotFound, SessionExpired
from agent.gate.sessions import Session, SessionTable
from tests.fakes.clock import FakeClock

NS = 1_000_000_000


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(name="table")
def _table(clock: FakeClock) -> SessionTable:
    return SessionTable(clock)


def opened(
    table: SessionTable, uid: int = 1001, *, limit_s: int = 3600, idle_s: int = 900
) -> Session:
    """Return a new session of `uid`."""
    return table.add(f"user{uid}", uid, "radiology", "unlock", limit_s=limit_s, idle_s=idle_s)


def test_session_says_who_what_and_until_when(table: SessionTable, clock: FakeClock) -> None:
    """All its fields are those it was opened with; its id is eight random bytes."""
    session = opened(table)
    assert (session.user, session.uid, session.vault) == ("user1001", 1001, "radiology")
    assert session.started_ns == clock.now_ns()
    assert session.ends_ns == clock.now_ns() + 3600 * NS
    assert len(bytes.fromhex(session.id)) == 8
    assert opened(table).id != session.id


def test_idle_session_is_due(table: SessionTable, clock: FakeClock) -> None:
    """Nobody used it for its idle limit: over, at that very moment."""
    session = opened(table)
    clock.advance(899)
    assert table.due() == ()
    clock.advance(1)
    assert [(due.session, due.limit) for due in table.due()] == [(session, "idle")]


def test_use_moves_the_idle_limit_and_not_the_absolute_one(
    table: SessionTable, clock: FakeClock
) -> None:
    """However busy, a session ends when its absolute limit is met."""
    session = opened(table)
    for _ in range(5):
        clock.advance(700)
        table.touch(session.id)
    assert table.due() == ()
    clock.advance(100)
    assert [due.limit for due in table.due()] == ["absolute"]


def test_use_after_the_end_revives_nothing(table: SessionTable, clock: FakeClock) -> None:
    """Late activity is refused and leaves the session due."""
    session = opened(table)
    clock.advance(901)
    with pytest.raises(SessionExpired):
        table.touch(session.id)
    assert [due.session for due in table.due()] == [session]


def test_live_refuses_what_is_over_unknown_or_ended(table: SessionTable, clock: FakeClock) -> None:
    """The gate gives keys to live sessions only, before anybody has collected the dead."""
    session, other = opened(table), opened(table)
    assert table.live(session.id) is session
    table.end(other.id)
    for gone in (other.id, "0123456789abcdef", ""):
        with pytest.raises(SessionExpired):
            table.live(gone)
    clock.advance(901)
    with pytest.raises(SessionExpired):
        table.live(session.id)


def test_wall_clock_lengthens_nothing(table: SessionTable, clock: FakeClock) -> None:
    """Setting the clock back by a day does not keep a session open."""
    opened(table)
    clock.set_wall(clock.now_ns() - 86_400 * NS)
    clock.advance(900)
    assert len(table.due()) == 1


def test_next_deadline_is_the_earliest_of_all(table: SessionTable, clock: FakeClock) -> None:
    """A waiter knows when to look again; with no session there is nothing to wait for."""
    assert table.next_deadline() is None
    first = opened(table, limit_s=600)
    second = opened(table, idle_s=300)
    assert table.next_deadline() == clock.monotonic() + 300
    table.end(second.id)
    assert table.next_deadline() == first.ends_at


def test_due_session_stays_until_ended(table: SessionTable, clock: FakeClock) -> None:
    """Whoever ends it may fail half-way and try again."""
    session = opened(table)
    clock.advance(5000)
    assert table.due() == table.due() != ()
    assert table.end(session.id) is session
    assert table.due() == ()
    with pytest.raises(NotFound):
        table.end(session.id)


def test_sessions_are_listed_by_owner(table: SessionTable) -> None:
    """Everybody's, or one user's, in the order they began."""
    mine, other, again = opened(table, 1), opened(table, 2), opened(table, 1)
    assert table.all() == (mine, other, again)
    assert table.all(1) == (mine, again)
    assert table.all(3) == ()


def test_idle_end_is_shown_as_wall_time(table: SessionTable, clock: FakeClock) -> None:
    """It moves with use, and is never after the absolute end."""
    session = opened(table, limit_s=1000)
    assert table.idle_ends_ns(session.id) == clock.now_ns() + 900 * NS
    clock.advance(500)
    table.touch(session.id)
    assert table.idle_ends_ns(session.id) == session.ends_ns


@pytest.mark.parametrize(("limit_s", "idle_s"), [(0, 1), (1, 0), (-1, 1)])
def test_session_without_limit_is_refused(table: SessionTable, limit_s: int, idle_s: int) -> None:
    """There is no session for ever."""
    with pytest.raises(ValueError, match="above zero"):
        opened(table, limit_s=limit_s, idle_s=idle_s)
