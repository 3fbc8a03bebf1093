"""How a mount is served, and how it ends: whatever happens first, in the one order that locks.

Refuse, invalidate, tell the gate, unmount, end (fsdriver/lock.py says why).  The launcher unmounts
what the launcher mounted; a mount of our own, made through fusermount3, is ours to undo.
"""

import logging
import signal
from collections.abc import Awaitable, Callable
from subprocess import DEVNULL

import pyfuse3
import trio

from agent.clock import Clock
from agent.control.worker import SHUT
from agent.errors import MountFailed
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.lock import drop_names, invalidate
from fsdriver.operations import VitrineOperations
from fsdriver.waiting import Eager

OWN_OPTIONS = frozenset({"fsname=vitrine", "subtype=vitrine", "ro", "nosuid", "nodev", "noexec"})
TICK_S = 1.0
MIN_TICK_S = 0.01
IDLE_MARGIN_S = 10.0  # the gate ends idle sessions; this is for when it does not
UNMOUNT_GRACE_S = 5.0  # how long to wait for the launcher before ending without it
TRIM_BATCH = 5_000  # 20 ms of invalidating

log = logging.getLogger(__name__)


class Deadline:
    """When a session is over, whatever the gate says.

    Kept in both clocks: setting the wall clock back must not lengthen a session.
    """

    def __init__(self, ends_ns: int, idle_s: int, clock: Clock) -> None:
        """Take the granted end and the idle limit, to which a margin is added."""
        self._clock = clock
        self._ends_ns = ends_ns
        self._ends = clock.monotonic() + (ends_ns - clock.now_ns()) / 1e9
        self._idle_s = idle_s + IDLE_MARGIN_S

    def passed(self, last_use: float) -> str:
        """Return why the session is over, or an empty string; `last_use` is monotonic."""
        now = self._clock.monotonic()
        if now >= self._ends or self._clock.now_ns() >= self._ends_ns:
            return "the session's time is over"
        return "nobody used the mount" if now - last_use >= self._idle_s else ""

    def pause_s(self) -> float:
        """Return how long to wait before looking again."""
        return min(TICK_S, max(self._ends - self._clock.monotonic(), MIN_TICK_S))


def begin(operations: VitrineOperations, at: str, clock: Clock, *, own: bool) -> None:
    """Join the kernel: `at` is a mount point of our `own`, or `/dev/fd/N` of a mount that exists.

    Raises MountFailed.
    """
    waits = Eager(lambda: operations.lock.is_awaited, clock)
    pyfuse3.trio = waits  # type: ignore[attr-defined]  # as pyfuse3.asyncio does
    try:
        pyfuse3.init(operations, at, set(OWN_OPTIONS) if own else set())
    except RuntimeError as error:
        raise MountFailed(
            "the mount could not be made",
            hint="see that /dev/fuse exists and that fusermount3 is installed (Debian: fuse3)",
        ) from error


class Mount:
    """Serves one mount until the session ends."""

    def __init__(
        self,
        operations: VitrineOperations,
        gatekeeper: Gatekeeper,
        deadline: Deadline,
        own_path: str = "",
    ) -> None:
        """Take what `begin` has joined to the kernel; `own_path` is a mount point of our own."""
        self._operations = operations
        self._gatekeeper = gatekeeper
        self._deadline = deadline
        self._own_path = own_path
        self._unmounted = trio.Event()

    async def serve(self) -> None:
        """Answer the kernel until the session ends, then lock; returns when all is done."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer)
            nursery.start_soon(self._gatekeeper.report)
            nursery.start_soon(self._announce)
            nursery.start_soon(self._trim)
            reason = await self._first_end()
            log.info("locking: %s", reason)
            await self._lock()
            await self._leave(wait=reason == SHUT)
            nursery.cancel_scope.cancel()

    async def _answer(self) -> None:
        try:
            await pyfuse3.main()
        except OSError as error:
            log.error("the connection to the kernel broke: %s", error.strerror)
        finally:
            self._unmounted.set()

    async def _announce(self) -> None:
        await self._operations.started.wait()
        await self._gatekeeper.ready()

    async def _first_end(self) -> str:
        """Return why the session ends, as soon as one of the reasons is there."""
        reasons: list[str] = []

        async def watch(end: Callable[[], Awaitable[str]]) -> None:
            reasons.append(await end())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for end in (self._gatekeeper.receive, self._limit, self._unmount, _terminated):
                nursery.start_soon(watch, end)
        return reasons[0]

    async def _limit(self) -> str:
        while True:
            why = self._deadline.passed(self._gatekeeper.last_use)
            if why:
                return why
            await trio.sleep(self._deadline.pause_s())

    async def _unmount(self) -> str:
        await self._unmounted.wait()
        return "somebody unmounted it"

    async def _trim(self) -> None:
        """Make the kernel drop what it holds too much of, oldest first."""
        while True:
            await trio.sleep(TICK_S)
            names = self._operations.inodes.excess(TRIM_BATCH)
            while names and not self._operations.lock.refusing:
                await trio.to_thread.run_sync(drop_names, names, pyfuse3.invalidate_entry)
                names = self._operations.inodes.excess(TRIM_BATCH)

    async def _lock(self) -> None:
        """Refuse, invalidate, say so.  Goes through even while being cancelled."""
        with trio.CancelScope(shield=True):
            self._operations.lock.refuse()
            if not self._unmounted.is_set():
                await invalidate(
                    self._operations.inodes, pyfuse3.invalidate_inode, pyfuse3.invalidate_entry
                )
            await self._gatekeeper.sealed()

    async def _leave(self, *, wait: bool) -> None:
        """Unmount, or `wait` for the launcher to: the gate has it do so once it hears `Sealed`."""
        with trio.CancelScope(shield=True):
            if self._own_path:
                await _fusermount(self._own_path)
            elif wait:
                with trio.move_on_after(UNMOUNT_GRACE_S):
                    await self._unmounted.wait()


async def _terminated() -> str:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    return "asked by a signal"


async def _fusermount(path: str) -> None:
    """Unmount lazily; a failure is no more than a left-over, for nothing is answered any more."""
    await trio.run_process(
        ["fusermount3", "-u", "-z", "-q", path], stdout=DEVNULL, stderr=DEVNULL, check=False
    )
