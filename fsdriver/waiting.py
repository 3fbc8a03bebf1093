"""Waits for the kernel's next request without a turn of the event loop, as long as they come fast.

pyfuse3 hands a lock from one task to the next and sleeps in trio between any two requests: two
turns of the loop each, which is more than most answers take.  Who reads file after file asks again
within microseconds.  So the task that has just answered looks for that itself, for a moment; a
processor that were let go to sleep would wake later than the next request comes, in a virtual
machine most of all.  The loop turns every few milliseconds whatever comes, and at once where
anything but a request is waited for.

pyfuse3 is told through its module variable `trio`, as its own asyncio mode tells it
(docs/decisions/0011-mount-speed.md).
"""

import select
from collections.abc import Callable
from types import TracebackType

import trio
from trio.lowlevel import ParkingLot

from agent.clock import Clock

LOOKS_FOR_S = 0.000_05  # most programs ask again within this; a processor's sleep costs as much
WAITS_FOR_MS = 1  # then, outside of the loop
TURN_S = 0.002  # after which the loop turns: a session's end waits no longer for it


class Baton:
    """Which task waits for the next request.  Who has answered may keep it: nothing is handed on.

    A trio.Lock is fair, and costs a turn of the loop even where nobody else wants it.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._held = False
        self._lot = ParkingLot()

    async def __aenter__(self) -> None:
        """Take it once it is free."""
        while self._held:
            await self._lot.park()
        self._held = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it to whoever comes first, this task or one that waits."""
        self._held = False
        self._lot.unpark()


class Lowlevel:
    """trio.lowlevel, but for how a request is waited for."""

    def __init__(self, is_awaited: Callable[[], bool], clock: Clock) -> None:
        """`is_awaited` tells whether a task waits for anything but a request."""
        self._clock = clock
        self._is_awaited = is_awaited
        self._turned = 0.0
        self._poll = select.poll()
        self._descriptor = -1

    def __getattr__(self, name: str) -> object:
        """Return what trio has."""
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return once a request can be read; raise trio.ClosedResourceError once none will."""
        if descriptor != self._descriptor:
            self._descriptor = descriptor
            self._poll.register(descriptor, select.POLLIN)
        if self._clock.monotonic() - self._turned < TURN_S and self._comes_soon():
            return
        await trio.lowlevel.wait_readable(descriptor)
        self._turned = self._clock.monotonic()

    def _comes_soon(self) -> bool:
        """Tell whether there is a request, or comes within a moment that nobody else needs."""
        if self._is_awaited():
            return bool(self._poll.poll(0))
        began = self._clock.monotonic()
        while not self._poll.poll(0):
            if self._clock.monotonic() - began > LOOKS_FOR_S:
                return bool(self._poll.poll(WAITS_FOR_MS))
        return True


class Eager:
    """trio, but for how pyfuse3 waits for requests."""

    Lock = Baton

    def __init__(self, is_awaited: Callable[[], bool], clock: Clock) -> None:
        """`is_awaited` tells whether a task waits for anything but a request."""
        self.lowlevel = Lowlevel(is_awaited, clock)

    def __getattr__(self, name: str) -> object:
        """Return what trio has."""
        return getattr(trio, name)
