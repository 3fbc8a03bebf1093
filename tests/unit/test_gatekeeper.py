"""What the gate is asked and told, and when a session ends."""

import socket
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from agent.control.connection import Connection
from agent.control.messages import Done, Failed, Message
from agent.control.session_messages import Activity, Opened, PackKey, Sealed, Shut, UnsealPack
from agent.errors import AccessDenied, SessionExpired
from agent.model.ids import PackId
from fsdriver.gatekeeper import ACTIVITY_EVERY_S, OPENED_EVERY_S, Gatekeeper
from fsdriver.mount import IDLE_MARGIN_S, Deadline
from tests.fakes.clock import FakeClock

HOUR_NS = 3_600_000_000_000


class TrioClock:
    """The clock of the test's own loop."""

    def now_ns(self) -> int:
        """Return the loop's time as wall time."""
        return int(trio.current_time() * 1e9)

    def monotonic(self) -> float:
        """Return the loop's time."""
        return trio.current_time()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a socket pair."""
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


Ends = tuple[socket.socket, socket.socket]


async def test_threads_get_keys_in_turn(ends: Ends, nursery: trio.Nursery) -> None:
    """Many threads ask at once; each gets the key of its own pack."""
    gate = Connection.over(ends[1])
    gatekeeper = Gatekeeper(Connection.over(ends[0]), TrioClock())
    nursery.start_soon(gatekeeper.receive)
    keys: dict[bytes, bytes] = {}

    async def answer() -> None:
        for _ in range(20):
            request = await gate.receive()
            assert isinstance(request, UnsealPack)
            await gate.send(PackKey(request.pack[::-1] + request.header))

    async def ask(pack: PackId) -> None:
        keys[pack] = await trio.to_thread.run_sync(gatekeeper.pack_key, pack, b"header")

    async with trio.open_nursery() as inner:
        inner.start_soon(answer)
        for number in range(20):
            inner.start_soon(ask, PackId(bytes([number]) * 31 + b"x"))
    assert keys == {pack: pack[::-1] + b"header" for pack in keys}
    assert len(keys) == 20
    nursery.cancel_scope.cancel()


async def test_refused_key_is_the_gate_s_refusal(ends: Ends, nursery: trio.Nursery) -> None:
    """What the gate answers with is raised where the key was wanted."""
    gate = Connection.over(ends[1])
    gatekeeper = Gatekeeper(Connection.over(ends[0]), TrioClock())
    nursery.start_soon(gatekeeper.receive)
    await gate.send(Failed("AccessDenied", "refused"))
    with pytest.raises(AccessDenied):
        await trio.to_thread.run_sync(gatekeeper.pack_key, PackId(bytes(32)), b"")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Shut(), "the gate asked"),
        (None, "the gate hung up"),
        (Done(), "the gate sent what was not asked for"),
    ],
)
async def test_session_ends_with_what_the_gate_does(
    ends: Ends, message: Message | None, why: str
) -> None:
    """Asked to, or hung up on, or confused: the session ends, and says why in our words."""
    gate = Connection.over(ends[1])
    gatekeeper = Gatekeeper(Connection.over(ends[0]), TrioClock())
    if message is None:
        gate.close()
    else:
        await gate.send(message)
    assert await gatekeeper.receive() == why
    with pytest.raises(SessionExpired):
        await trio.to_thread.run_sync(gatekeeper.pack_key, PackId(bytes(32)), b"")


async def test_garbage_from_the_gate_ends_the_session(ends: Ends) -> None:
    """What is no message is no reason to go on."""
    gatekeeper = Gatekeeper(Connection.over(ends[0]), TrioClock())
    ends[1].sendall(b"\x04\0\0\0\xff\xff\xff\xff")
    assert await gatekeeper.receive() == "the gate sent what is no message"


async def told(gate: Connection) -> list[Message]:
    """Return what the gate has been told until the worker hung up."""
    messages = []
    while (message := await gate.receive()) is not None:
        messages.append(message)
    return messages


async def test_opened_files_are_folded_and_activity_is_rare(
    ends: Ends, autojump_clock: MockClock
) -> None:
    """A thousand slices of one study in a second are one line; use is told every few seconds."""
    connection = Connection.over(ends[0])
    gatekeeper = Gatekeeper(connection, TrioClock())
    heard: list[Message] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gatekeeper.report)
        for second in range(20):
            for _ in range(1000):
                gatekeeper.opened("study")
                gatekeeper.used()
            gatekeeper.opened(f"other{second}")
            await trio.sleep(OPENED_EVERY_S)
        await trio.sleep(3 * ACTIVITY_EVERY_S)
        nursery.cancel_scope.cancel()
    connection.close()
    heard = await told(Connection.over(ends[1]))
    opened = [message for message in heard if isinstance(message, Opened)]
    assert sum(message.counts.get("study", 0) for message in opened) == 20_000
    assert len(opened) <= 21
    assert 4 <= sum(isinstance(message, Activity) for message in heard) <= 5


async def test_last_opened_files_are_told_before_sealed(ends: Ends) -> None:
    """The record is complete when the session is."""
    connection = Connection.over(ends[0])
    gatekeeper = Gatekeeper(connection, TrioClock())
    gatekeeper.opened("study")
    await gatekeeper.sealed()
    connection.close()
    assert await told(Connection.over(ends[1])) == [Opened({"study": 1}), Sealed()]


async def test_gate_that_has_gone_is_not_told(ends: Ends, autojump_clock: MockClock) -> None:
    """Locking does not fail because nobody listens."""
    gatekeeper = Gatekeeper(Connection.over(ends[0]), TrioClock())
    ends[1].close()
    gatekeeper.opened("study")
    await gatekeeper.sealed()
    gatekeeper.opened("study")
    await gatekeeper.report()


def test_deadline_is_kept_in_both_clocks() -> None:
    """Neither a wall clock set back nor one set forward lengthens a session."""
    clock = FakeClock()
    deadline = Deadline(clock.now_ns() + HOUR_NS, 10**6, clock)
    passed = partial(deadline.passed, clock.monotonic())
    assert passed() == ""
    clock.advance(3599)
    assert passed() == ""
    clock.advance(2)
    assert "time is over" in passed()


def test_idle_session_ends_a_little_after_its_limit() -> None:
    """The gate ends it at the limit; the worker, should the gate not, a margin later."""
    clock = FakeClock()
    deadline = Deadline(clock.now_ns() + HOUR_NS, 60, clock)
    used = clock.monotonic()
    clock.advance(60 + IDLE_MARGIN_S - 1)
    assert deadline.passed(used) == ""
    clock.advance(1)
    assert "nobody" in deadline.passed(used)
    assert deadline.passed(clock.monotonic()) == ""
