"""Sessions from the record to the end: audit first, then keys, then the mount; and back.

The order of opening: the audit record is on disk before the opening key is unwrapped, and the key
before the launcher is told.  The order of ending: no more keys, the worker refuses and empties
the kernel's caches, the launcher unmounts, the record says why.  Whatever fails on the way opens
nothing: what was begun is ended, and the record says that it failed.
"""

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from agent.audit.chain import AuditChain
from agent.audit.records import Detail, Event, Outcome
from agent.clock import Clock
from agent.control.connection import Connection
from agent.control.messages import Message, Progress
from agent.control.session_messages import (
    EndSession,
    Serving,
    SessionGone,
    Started,
    StartMount,
    StartRestore,
    WorkerGrant,
    WorkerResult,
)
from agent.errors import ProtocolError, RestoreIncomplete, SessionExpired, VitrineError
from agent.gate.grants import grant_messages, opened_details
from agent.gate.launching import LauncherLink
from agent.gate.sessions import Session, SessionTable
from agent.gate.vaults import GateVault
from agent.gate.worker import WorkerChannel
from agent.model.snapshot import SnapshotInfo

SHUT_PATIENCE_S = 5.0  # refusing takes milliseconds; emptying the kernel's caches up to a second
OPENED_RECORDED_S = 10.0  # how long opened files are counted before they go on record
SHORTEST_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session may last, and how much memory its worker may fill."""

    absolute_s: int
    idle_s: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody may have, once everything was checked."""

    user: str
    uid: int
    gid: int
    vault: GateVault
    snapshots: Sequence[SnapshotInfo]
    latest_ns: int  # `latest/` shows the newest snapshot not after this
    details: dict[str, Detail] = field(default_factory=dict)  # for the record


@dataclass(slots=True)
class _Live:
    """A session that has a worker."""

    session: Session
    vault: GateVault
    channel: WorkerChannel
    theirs: socket.socket  # the worker's end, until it has it
    path: str = ""
    ending: bool = False
    ended: trio.Event = field(default_factory=trio.Event)


class Broker:
    """Starts and ends sessions.  All methods are for the event loop of one task tree."""

    def __init__(
        self,
        table: SessionTable,
        audit: AuditChain,
        clock: Clock,
        limits: Limits,
        nursery: trio.Nursery,
        launcher_socket: str,
        repository: str,
    ) -> None:
        """Take what sessions need; tasks of sessions run in `nursery`."""
        self.table = table
        self._audit = audit
        self._clock = clock
        self._limits = limits
        self._nursery = nursery
        self._repository = repository
        self._launcher = LauncherLink(launcher_socket, nursery, self._worker_gone)
        self._live: dict[str, _Live] = {}
        self._changed = trio.Event()

    async def record(
        self, event: Event, outcome: Outcome, actor: str, target: str, /, **details: Detail
    ) -> None:
        """Put one record on the chain, synced; raise AuditUnavailable where that fails."""
        append = partial(self._audit.append, event, outcome, actor=actor, target=target)
        await trio.to_thread.run_sync(partial(append, details=details))

    async def mount(self, wish: Wish) -> tuple[Session, str]:
        """Return a session and the path at which its user finds the mount."""
        live = await self._begin(wish, "unlock", Event.SESSION_STARTED, lambda _: None)
        request = StartMount(
            live.session.id, wish.vault.keys.name, wish.uid, wish.gid, self._repository
        )
        async with self._or_end(live):
            live.path = await self._start(live, wish, request)
        return live.session, live.path

    async def restore(
        self,
        wish: Wish,
        target: str,
        paths: tuple[bytes, ...],
        on_progress: Callable[[Progress], None],
    ) -> tuple[Session, WorkerResult]:
        """Restore to `target` and return what was written; raise RestoreIncomplete otherwise."""
        live = await self._begin(wish, "restore", Event.RESTORE_STARTED, on_progress)
        request = StartRestore(live.session.id, target, wish.uid, self._repository)
        async with self._or_end(live):
            await self._start(live, wish, request, paths)
            await live.channel.gone()
        result = live.channel.result
        await self.end(live.session.id, "done" if result else "the worker died")
        if result is None:
            raise live.channel.failure or RestoreIncomplete(
                "the restore's worker ended before it was done", hint="see the launcher's log"
            )
        return live.session, result

    async def end(self, session_id: str, why: str) -> None:
        """Shut a session; returns when it is shut.  One that is ending is waited for."""
        live = self._live.get(session_id)
        if live is None:
            return
        if live.ending:
            await live.ended.wait()
            return
        live.ending = True  # from here on nobody else ends it: no await since the look-up
        with trio.CancelScope(shield=True):
            await self._shut(live, why)

    async def end_all(self, why: str, chosen: Callable[[Session], bool]) -> list[str]:
        """Shut every session that `chosen` picks, side by side; return their ids."""
        ids = [live.session.id for live in self._live.values() if chosen(live.session)]
        async with trio.open_nursery() as nursery:
            for session_id in ids:
                nursery.start_soon(self.end, session_id, why)
        return ids

    def path_of(self, session_id: str) -> str:
        """Return where a session is mounted, or nothing."""
        live = self._live.get(session_id)
        return live.path if live else ""

    async def keep_limits(self) -> None:
        """End sessions when their time is over, and record what they opened; runs for ever."""
        while True:
            for due in self.table.due():
                live = self._live.get(due.session.id)
                if live is not None and not live.ending:
                    self._nursery.start_soon(self.end, due.session.id, f"{due.limit} limit")
            for live in list(self._live.values()):
                await self._record_opened(live)
            await self._sleep_until_deadline()

    async def _begin(
        self, wish: Wish, action: str, event: Event, on_progress: Callable[[Progress], None]
    ) -> _Live:
        """Record, unwrap the opening key, and return a session that has no worker yet."""
        session = self.table.add(
            wish.user,
            wish.uid,
            wish.vault.keys.name,
            action,
            limit_s=self._limits.absolute_s,
            idle_s=self._limits.idle_s,
        )
        try:
            details = {"session": session.id} | wish.details
            await self.record(event, Outcome.SUCCESS, wish.user, session.vault, **details)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            await trio.to_thread.run_sync(wish.vault.hold)
        except BaseException:
            self.table.end(session.id)
            raise
        touch = partial(self._touch, session.id)
        channel = WorkerChannel(Connection.over(ours), wish.vault, touch, on_progress)
        self._live[session.id] = _Live(session, wish.vault, channel, theirs)
        self._changed.set()  # there is a new deadline
        return self._live[session.id]

    async def _start(
        self, live: _Live, wish: Wish, request: Message, paths: tuple[bytes, ...] = ()
    ) -> str:
        """Have the launcher start the worker, hand it its grant, and wait until it serves."""
        with live.theirs:
            started = await self._launcher.call(request, [live.theirs.fileno()])
        if not isinstance(started, Started):
            raise ProtocolError("the launcher answered something else")
        descriptors = await trio.to_thread.run_sync(wish.vault.index_descriptors)
        grant = self._grant(live.session, wish, len(descriptors), paths)
        grant, more = grant_messages(grant, wish.snapshots)
        self._nursery.start_soon(self._serve, live, [grant, *more], descriptors)
        await live.channel.ready()
        await self._launcher.call(Serving(live.session.id))
        return started.path

    def _grant(
        self, session: Session, wish: Wish, index_files: int, paths: tuple[bytes, ...]
    ) -> WorkerGrant:
        keys = wish.vault.keys
        return WorkerGrant(
            session=session.id,
            vault=keys.vault,
            vault_name=keys.name,
            id_key=keys.id_key,
            action=session.action,
            repository=self._repository,
            snapshots=(),
            newest_only_until_ns=wish.latest_ns,
            ends_ns=session.ends_ns,
            idle_s=session.idle_s,
            cache_bytes=self._limits.cache_bytes,
            index_files=index_files,
            paths=paths,
        )

    async def _serve(self, live: _Live, grant: Sequence[Message], descriptors: list[int]) -> None:
        """Talk with the worker for as long as it lives; its end is the session's end."""
        try:
            await live.channel.run(grant, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if live.session.action == "unlock":
            await self.end(live.session.id, "the worker ended")

    @asynccontextmanager
    async def _or_end(self, live: _Live) -> AsyncIterator[None]:
        """End the session if what is inside fails, or if who asked has gone."""
        try:
            yield
        except BaseException as error:
            reason = type(error).__name__ if isinstance(error, VitrineError) else "interrupted"
            await self.end(live.session.id, f"failed: {reason}")
            raise

    async def _shut(self, live: _Live, why: str) -> None:
        """Shut in order; every step is taken even if one before it fails."""
        session = live.session
        sealed = await live.channel.shut(SHUT_PATIENCE_S)
        live.theirs.close()
        with suppress(VitrineError):  # a launcher that has gone has ended its workers
            await self._launcher.call(EndSession(session.id))
        live.channel.close()
        await trio.to_thread.run_sync(live.vault.release)
        self.table.end(session.id)
        del self._live[session.id]
        live.ended.set()
        await self._record_opened(live)
        event = Event.SESSION_ENDED if session.action == "unlock" else Event.RESTORE_ENDED
        outcome = Outcome.FAILED if why.startswith("failed") else Outcome.SUCCESS
        details: dict[str, Detail] = {"session": session.id, "why": why, "sealed": sealed}
        if live.channel.result is not None:
            result = live.channel.result
            details |= {"files": result.files, "bytes": result.bytes, "failed": result.failed}
        await self.record(event, outcome, session.user, session.vault, **details)

    async def _record_opened(self, live: _Live) -> None:
        """Put on record how many files of how many studies were opened since the last time."""
        opened = live.channel.opened
        if not opened:
            return
        live.channel.opened = Counter()
        session = live.session
        for details in opened_details(session.id, opened):
            await self.record(
                Event.FILES_OPENED, Outcome.SUCCESS, session.user, session.vault, **details
            )

    def _touch(self, session_id: str) -> None:
        with suppress(SessionExpired):  # too late: it is about to be shut
            self.table.touch(session_id)

    def _worker_gone(self, message: SessionGone) -> None:
        self._nursery.start_soon(self.end, message.session, "the worker ended")

    async def _sleep_until_deadline(self) -> None:
        deadline = self.table.next_deadline()
        wait = OPENED_RECORDED_S
        if deadline is not None:
            wait = min(wait, max(SHORTEST_WAIT_S, deadline - self._clock.monotonic()))
        self._changed = trio.Event()
        with trio.move_on_after(wait):
            await self._changed.wait()
