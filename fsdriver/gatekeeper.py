"""The worker's side of the socket to the gate: keys in, what happened out.

What is told without a question is folded: opened files by directory, at most once a second; that
somebody is there at all, at most once in some seconds.  The gate's silence is harmless; its end is
the session's end.
"""

from collections import Counter

import trio

from agent.clock import Clock
from agent.control.connection import Connection
from agent.control.session_messages import Activity, Opened, Sealed, WorkerReady
from agent.control.worker import GateLine
from agent.errors import SessionExpired

OPENED_EVERY_S = 1.0
ACTIVITY_EVERY_S = 5.0  # against idle limits of minutes
MAX_COUNTS = 10_000  # of 25 bytes: a message stays far under the frame's limit


class Gatekeeper(GateLine):
    """What the gate is asked and told.  `pack_key` is for threads, the rest for the event loop."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Take the connection, on which the grant has been received."""
        super().__init__(connection)
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._used_since = False
        self.last_use = clock.monotonic()

    async def report(self) -> None:
        """Tell the gate what happened, until cancelled or until it has hung up."""
        told_activity = self._clock.monotonic() - ACTIVITY_EVERY_S
        try:
            while True:
                await trio.sleep(OPENED_EVERY_S)
                await self._tell_opened()
                now = self._clock.monotonic()
                if self._used_since and now - told_activity >= ACTIVITY_EVERY_S:
                    self._used_since, told_activity = False, now
                    await self.tell(Activity())
        except SessionExpired:
            return  # `receive` sees the same end, and says so

    def used(self) -> None:
        """Take note that somebody uses the mount."""
        self._used_since = True
        self.last_use = self._clock.monotonic()

    def opened(self, directory: str) -> None:
        """Count one opened file of the directory with this digest."""
        self._counts[directory] += 1

    async def ready(self) -> None:
        """Tell the gate that the mount answers."""
        await self.tell(WorkerReady())

    async def sealed(self) -> None:
        """Tell the gate what was opened last, and that nothing is answered or cached any more."""
        try:
            await self._tell_opened()
            await self.tell(Sealed())
        except SessionExpired:
            return  # the gate has gone: nobody is left to tell

    async def _tell_opened(self) -> None:
        while self._counts:
            some = dict(self._counts.most_common(MAX_COUNTS))
            for directory in some:
                del self._counts[directory]
            await self.tell(Opened(some))
