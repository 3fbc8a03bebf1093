"""Protecting one vault: its sources watched, changes settled, runs taken, one at a time, for ever.

Everything here runs in trio's thread; runs and watches block in threads of their own.
"""

import enum
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from agent.backup.request import Counts, Outcome, Request
from agent.backup.run import VaultBackup
from agent.backup.settle import Settle
from agent.backup.sources import Source
from agent.backup.waiting import DirtyNames
from agent.backup.watch import SourceWatch
from agent.clock import Clock
from agent.errors import VitrineError
from agent.model.snapshot import Trigger

CHECK_SECONDS: Final = 5.0  # a source that was replaced, or mounted over, sends no event
RETRY_SECONDS: Final = 30.0
UNWATCHED_SCAN_SECONDS: Final = 300.0  # where events are missing, scans have to do
EVENT_GRACE_SECONDS: Final = 1.0  # watchdog holds the first half of a move back for 0.5 s

log = logging.getLogger(__name__)


class State(enum.StrEnum):
    """How a source stands."""

    WATCHING = "watching"
    SCANNING = "scanning"
    SETTLING = "settling"
    FAILING = "failing"
    MISSING = "missing"


class Standing(NamedTuple):
    """What is known of one source."""

    path: bytes
    state: State
    files: int
    bytes: int
    last_snapshot_ns: int
    dirty_since_ns: int  # 0: nothing waits
    problem: str


class Timing(NamedTuple):
    """When runs are taken, in seconds."""

    settle: float
    max_wait: float
    scan_interval: float


class VaultProtection:
    """Keeps one vault's sources protected."""

    def __init__(
        self,
        name: str,
        backup: VaultBackup,
        sources: Sequence[Source],
        timing: Timing,
        clock: Clock,
        on_failure: Callable[[VitrineError], None],
    ) -> None:
        """Take the vault's backup; `on_failure` records a failed run, in a thread."""
        self.name = name
        self._backup = backup
        self._timing = timing
        self._clock = clock
        self._on_failure = on_failure
        self._settle = Settle(timing.settle, timing.max_wait)
        self._watches = {source.path: SourceWatch(source.path, self._wake) for source in sources}
        self._busy = trio.Lock()
        self._changed = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._next_scan = 0.0
        self._retry_at = math.inf
        self._failure = ""
        self._outcome: Outcome | None = None
        self._dirty_since_ns = 0
        self._is_running = False

    # -- for the service ------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Protect the vault until cancelled; started once every source is watched."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            await self._watch(list(self._watches.values()))
            task_status.started()
            await self._try(Trigger.SCHEDULE, full=True)
            while True:
                await self._next()
        finally:
            with trio.CancelScope(shield=True):
                for watch in self._watches.values():
                    await trio.to_thread.run_sync(watch.stop)
                self._backup.close()

    async def snapshot(
        self,
        *,
        full: bool,
        reread: bool = False,
        on_progress: Callable[[Counts], None] = lambda _: None,
    ) -> Outcome:
        """Take a snapshot now, of what changed or of everything; raise what prevents it."""
        await trio.sleep(EVENT_GRACE_SECONDS)  # what was written just before the request counts
        return await self._run(
            Trigger.REQUEST, full=full or reread, reread=reread, on_progress=on_progress
        )

    def standings(self) -> list[Standing]:
        """Return how each source stands."""
        return [self._standing(path, watch) for path, watch in self._watches.items()]

    # -- the loop -------------------------------------------------------------------------------

    async def _next(self) -> None:
        """Wait for the next thing to do, and do it."""
        now = trio.current_time()
        wake_at = min(self._next_scan, self._retry_at, now + CHECK_SECONDS, self._due())
        with trio.move_on_at(wake_at):
            await self._changed.wait()
        self._changed = trio.Event()
        await self._rearm()
        now = trio.current_time()
        if now >= self._next_scan:
            await self._try(Trigger.SCHEDULE, full=True)
        elif now >= min(self._retry_at, self._due()):
            await self._try(Trigger.CHANGE, full=False)

    def _due(self) -> float:
        """Return when changes have settled; after a failure the retry counts, not they."""
        due = self._settle.due()
        return math.inf if due is None or self._failure else due

    async def _try(self, trigger: Trigger, *, full: bool) -> None:
        """Run; on failure, say so and try again later."""
        try:
            await self._run(trigger, full=full, on_progress=lambda _: None)
        except VitrineError as error:
            log.error("no snapshot of vault %s: %s", self.name, error.message)

    async def _run(
        self,
        trigger: Trigger,
        *,
        full: bool,
        reread: bool = False,
        on_progress: Callable[[Counts], None],
    ) -> Outcome:
        async with self._busy:
            self._is_running = True
            if full:
                await self._watch([w for w in self._watches.values() if w.problem])
                self._next_scan = trio.current_time() + self._scan_interval()
            try:
                request = Request(trigger, full, self._taken(), reread=reread)
                outcome = await self._backup.run(request, on_progress)
            except VitrineError as error:
                self._failure = error.message
                self._retry_at = trio.current_time() + RETRY_SECONDS
                await trio.to_thread.run_sync(self._on_failure, error)
                raise
            finally:
                self._is_running = False
            self._outcome, self._failure = outcome, ""
            self._retry_at = math.inf
            return outcome

    def _taken(self) -> dict[bytes, DirtyNames | None]:
        """Return what is dirty by source; None for a source that is to be scanned whole."""
        taken = {path: watch.dirty.take() for path, watch in self._watches.items()}
        self._settle.taken()
        self._dirty_since_ns = 0
        if any(watch.dirty.has_more for watch in self._watches.values()):
            self._note()  # new directories get their second look
        return {
            path: None if one.everything else one.names
            for path, one in taken.items()
            if not one.is_empty
        }

    async def _rearm(self) -> None:
        """Watch anew what is not what was watched: replaced, mounted, unmounted, come back."""
        stale = await trio.to_thread.run_sync(self._stale)
        if stale:
            await self._watch(stale)
            self._note()

    def _stale(self) -> list[SourceWatch]:
        return [watch for watch in self._watches.values() if not watch.is_current]

    async def _watch(self, watches: list[SourceWatch]) -> None:
        for watch in watches:
            await trio.to_thread.run_sync(watch.start)

    def _scan_interval(self) -> float:
        if any(watch.problem for watch in self._watches.values()):
            return min(self._timing.scan_interval, UNWATCHED_SCAN_SECONDS)
        return self._timing.scan_interval

    # -- changes --------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Take note of a change; called from a watch's thread."""
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._note, idempotent=True)
            except trio.RunFinishedError:
                return  # the service ended before its watches did

    def _note(self) -> None:
        if not self._settle.is_waiting:
            self._dirty_since_ns = self._clock.now_ns()
        self._settle.changed(trio.current_time())
        self._changed.set()

    def _standing(self, path: bytes, watch: SourceWatch) -> Standing:
        known = self._outcome.sources.get(path) if self._outcome else None
        problem = self._failure or (known.problem if known else "") or watch.problem
        if known and known.missing:
            state = State.MISSING
        elif self._failure:
            state = State.FAILING
        elif self._is_running:
            state = State.SCANNING
        else:
            state = State.SETTLING if self._settle.is_waiting else State.WATCHING
        return Standing(
            path,
            state,
            known.files if known else 0,
            known.bytes if known else 0,
            self._outcome.last_taken_ns if self._outcome else 0,
            self._dirty_since_ns,
            problem,
        )
