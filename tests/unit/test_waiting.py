"""Waiting for requests: at once where one is there, in the loop where none comes, never both."""

import os
from collections.abc import Iterator

import pytest
import trio

from agent.clock import SystemClock
from fsdriver.waiting import TURN_S, Baton, Eager, Lowlevel
from tests.fakes.clock import FakeClock


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe, which stands for the kernel's device."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        """Count from nought."""
        self.count = 0

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            self.count += 1
            await trio.lowlevel.checkpoint()


async def test_what_is_there_is_read_without_a_turn_of_the_loop(pipe: tuple[int, int]) -> None:
    """Only after TURN_S the loop turns, though more is there."""
    clock, turns = FakeClock(), Turns()
    waits = Lowlevel(lambda: False, clock)
    os.write(pipe[1], b"request")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await waits.wait_readable(pipe[0])
        before = turns.count
        for _ in range(100):
            await waits.wait_readable(pipe[0])
        assert turns.count == before
        for _ in range(3):
            clock.advance(2 * TURN_S)
            await waits.wait_readable(pipe[0])
        assert turns.count > before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_awaited", [False, True])
async def test_what_comes_later_is_waited_for_in_the_loop(
    pipe: tuple[int, int], is_awaited: bool
) -> None:
    """Others go on meanwhile, and one of them may be who asks."""
    waits = Lowlevel(lambda: is_awaited, SystemClock())
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.wait_readable, pipe[0])
            await trio.testing.wait_all_tasks_blocked()
            os.write(pipe[1], b"request")
        assert os.read(pipe[0], 100) == b"request"


async def test_a_descriptor_that_closes_ends_the_wait(pipe: tuple[int, int]) -> None:
    """As pyfuse3.terminate() expects."""
    waits = Lowlevel(lambda: False, SystemClock())
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.wait_readable, pipe[0])
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(pipe[0])


async def test_the_baton_is_held_by_one_and_kept_by_who_wants_it_again() -> None:
    """Who waits for it gets it once the holder waits for anything else."""
    baton, held = Baton(), list[str]()

    async def take(name: str) -> None:
        for _ in range(3):
            async with baton:
                held.append(name)
        await trio.lowlevel.checkpoint()

    async with baton, trio.open_nursery() as nursery:
        nursery.start_soon(take, "other")
        await trio.testing.wait_all_tasks_blocked()
        assert not held
        nursery.cancel_scope.cancel()
    assert not held, "it was cancelled while it waited"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "one")
        nursery.start_soon(take, "other")
    assert sorted(held) == ["one"] * 3 + ["other"] * 3
    assert held in (["one"] * 3 + ["other"] * 3, ["other"] * 3 + ["one"] * 3)


async def test_all_else_is_trio() -> None:
    """What pyfuse3 takes from trio, it gets from trio."""
    eager = Eager(lambda: False, SystemClock())
    assert eager.open_nursery is trio.open_nursery
    assert eager.ClosedResourceError is trio.ClosedResourceError
    assert eager.lowlevel.current_task is trio.lowlevel.current_task
