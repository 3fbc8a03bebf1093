"""The worker's side of the socket to the gate: keys in, what happened out.

One question is outstanding at a time and answers come in order.  What is told without a question
is folded: opened files by directory, at most once a second; that somebody is there at all, at
most once in some seconds.  The gate's silence is harmless; its end is the session's end.
"""

from collections import Counter

import trio

from agent.clock import Clock
from agent.control.client import final
from agent.control.messages import (
    Activity,
    Failed,
    Message,
    Opened,
    PackKey,
    Sealed,
    Shut,
    UnsealPack,
    WorkerReady,
)
from agent.control.wire import Connection
from agent.errors import ProtocolError, SessionExpired
from agent.model.ids import PackId

OPENED_EVERY_S = 1.0
ACTIVITY_EVERY_S = 5.0  # against idle limits of minutes
SHUT = "the gate asked"
MAX_COUNTS = 10_000  # of 25 bytes: a message stays far under the frame's limit


class Gatekeeper:
    """What the gate is asked and told.  `pack_key` is for threads, the rest for the event loop."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Take the connection, on which the grant has been received."""
        self._connection = connection
        self._clock = clock
        self._token = trio.lowlevel.current_trio_token()
        self._turn = trio.Lock()
        self._answers_in, self._answers = trio.open_memory_channel[Message](1)
        self._counts: Counter[str] = Counter()
        self._used_since = False
        self.last_use = clock.monotonic()

    async def receive(self) -> str:
        """Hand on answers until the session must end; return why: it is one of our words."""
        async with self._answers_in:
            while True:
                try:
                    message = await self._connection.receive()
                except ProtocolError:
                    return "the gate sent what is no message"
                match message:
                    case None:
                        return "the gate hung up"
                    case Shut():
                        return SHUT
                    case PackKey() | Failed():
                        await self._answers_in.send(message)
                    case _:
                        return "the gate sent what was not asked for"

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
                    await self._connection.send(Activity())
        except ProtocolError:
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
        await self._connection.send(WorkerReady())

    async def sealed(self) -> None:
        """Tell the gate what was opened last, and that nothing is answered or cached any more."""
        try:
            await self._tell_opened()
            await self._connection.send(Sealed())
        except ProtocolError:
            return  # the gate has gone: nobody is left to tell

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return a pack's key, from the gate; called from threads, and blocks.

        Raises what the gate refuses with, and SessionExpired where it has gone.
        """
        try:
            return trio.from_thread.run(self._ask, pack, preamble, trio_token=self._token)
        except trio.RunFinishedError:
            raise SessionExpired("the session has ended") from None

    async def _ask(self, pack: PackId, preamble: bytes) -> bytes:
        async with self._turn:
            try:
                await self._connection.send(UnsealPack(pack, preamble))
                answer = await self._answers.receive()
            except (ProtocolError, trio.EndOfChannel):
                raise SessionExpired("the session has ended") from None
        key = final(answer)
        if not isinstance(key, PackKey):
            raise ProtocolError("the gate answered something else")
        return key.key

    async def _tell_opened(self) -> None:
        while self._counts:
            some = dict(self._counts.most_common(MAX_COUNTS))
            for directory in some:
                del self._counts[directory]
            await self._connection.send(Opened(some))
