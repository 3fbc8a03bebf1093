"""The gate's end of one session's socket pair: grants, unseals pack by pack, hears, shuts."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from agent.control.client import error_of
from agent.control.connection import Connection
from agent.control.messages import Failed, Message, Progress
from agent.control.session_messages import (
    Activity,
    Opened,
    PackKey,
    Sealed,
    Shut,
    UnsealPack,
    WorkerProgress,
    WorkerReady,
    WorkerResult,
)
from agent.errors import MountFailed, ProtocolError, SessionExpired, VitrineError
from agent.model.ids import PackId

READY_S = 15.0  # a worker that has not mounted by then never will


class Unsealer(Protocol):
    """Gives pack keys; the gate's vault."""

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return one pack's key."""
        ...


class WorkerChannel:
    """Talks with one worker.  `run` is a task of the gate's nursery and ends when the worker does.

    Pack keys are given while the channel is live; `shut` ends that first, before anything is
    awaited.
    """

    def __init__(
        self,
        connection: Connection,
        vault: Unsealer,
        on_activity: Callable[[], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Take the gate's end, and who is told that the session is in use, and how far it is."""
        self._connection = connection
        self._vault = vault
        self._on_activity = on_activity
        self._on_progress = on_progress
        self._live = True
        self._ready = trio.Event()
        self._sealed = trio.Event()
        self._gone = trio.Event()
        self.opened: Counter[str] = Counter()
        self.result: WorkerResult | None = None
        self._failed: Failed | None = None

    async def run(self, grant: Sequence[Message], descriptors: list[int]) -> None:
        """Hand over the grant, then answer until the worker hangs up."""
        try:
            for part in grant[:-1]:
                await self._connection.send(part)
            await self._connection.send(grant[-1], descriptors)
            while (message := await self._connection.receive()) is not None:
                await self._heard(message)
        except ProtocolError as error:
            self._failed = self._failed or Failed("ProtocolError", error.message)
        finally:
            self._live = False
            self._connection.close()
            for event in (self._gone, self._sealed, self._ready):
                event.set()

    async def ready(self) -> None:
        """Wait until the worker serves; raise MountFailed where it never will."""
        with trio.move_on_after(READY_S):
            await self._ready.wait()
        if self._gone.is_set() or not self._ready.is_set():
            raise self.failure or MountFailed(
                "the session's worker did not start: it ended, or hangs",
                hint="see the launcher's log",
            )

    @property
    def failure(self) -> VitrineError | None:
        """What the worker said that it failed with."""
        return error_of(self._failed) if self._failed else None

    def close(self) -> None:
        """Hang up; a worker that still lives ends by that."""
        self._live = False
        self._connection.close()

    async def shut(self, patience_s: float) -> bool:
        """Give no key from now on; return whether the worker says that it refuses everything."""
        self._live = False
        with trio.move_on_after(patience_s):
            try:
                await self._connection.send(Shut())
            except ProtocolError:
                return False  # it has gone already
            await self._sealed.wait()
        return self._sealed.is_set() and not self._gone.is_set()

    async def gone(self) -> None:
        """Wait until the worker has hung up."""
        await self._gone.wait()

    async def _heard(self, message: Message) -> None:  # noqa: C901 - one flat match
        match message:
            case UnsealPack():
                await self._connection.send(self._unsealed(message))
            case Activity():
                self._on_activity()
            case Opened(counts):
                self.opened.update(counts)
                self._on_activity()
            case WorkerReady():
                self._ready.set()
            case Sealed():
                self._sealed.set()
            case WorkerProgress(done, total, _):
                self._on_activity()
                self._on_progress(Progress("restoring", done, total, "bytes"))
            case WorkerResult():
                self.result = message
            case Failed():
                self._failed = message
            case _:
                raise ProtocolError(f"a worker said {type(message).__name__}")

    def _unsealed(self, request: UnsealPack) -> Message:
        try:
            if not self._live:
                raise SessionExpired("the session has ended")
            return PackKey(self._vault.pack_key(request.pack, request.header))
        except VitrineError as error:
            return Failed(type(error).__name__, error.message, error.hint)
