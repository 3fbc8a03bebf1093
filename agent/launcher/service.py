"""Who is heard, and what may be asked: the gate, for a mount, a restore, or an end."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from agent.control.connection import Connection
from agent.control.messages import Done, Message
from agent.control.server import Reply, answer, failure, serve_connections
from agent.control.session_messages import (
    EndSession,
    Serving,
    SessionGone,
    Started,
    StartMount,
    StartRestore,
)
from agent.control.wire import Peer
from agent.errors import AccessDenied, ProtocolError
from agent.launcher import mounting, workers
from agent.launcher.target import open_target
from agent.launcher.workers import Account, Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a launcher is told."""

    runtime: Path  # mount points are made below it
    gate_uid: int  # the only user that is heard
    worker: Account | None = None  # None: workers run as whoever the launcher runs as


async def run(
    listener: trio.SocketListener,
    settings: Settings,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the gate until cancelled; then every session ends first."""
    if os.geteuid() == 0:
        await trio.to_thread.run_sync(workers.remove_left_overs, settings.runtime)
    hear = partial(_hear, settings=settings)
    await serve_connections(listener, hear, task_status=task_status)


async def _hear(connection: Connection, settings: Settings) -> None:
    """Serve one connection; the sessions it started end with it."""
    if connection.peer.uid != settings.gate_uid:
        log.warning("a caller with uid %d was refused", connection.peer.uid)
        await connection.send(failure(AccessDenied("only the gate is heard here")))
        return
    async with trio.open_nursery() as nursery:
        sessions = Sessions(connection, settings, nursery)
        try:
            await answer(connection, sessions.handle)
        finally:
            await sessions.end_all()


class Sessions:
    """The sessions that one connection started; their tasks are in the connection's nursery."""

    def __init__(self, connection: Connection, settings: Settings, nursery: trio.Nursery) -> None:
        """Start with none."""
        self._connection = connection
        self._settings = settings
        self._nursery = nursery
        self._privileged = os.geteuid() == 0
        self._workers: dict[str, Worker] = {}

    async def handle(self, peer: Peer, request: Message, reply: Reply) -> Message:
        """Carry out one request of the gate; `peer` was looked at when it connected."""
        match request:
            case StartMount() | StartRestore():
                (gate_fd,) = await reply.receive_fds(1)
                try:
                    return await self._start(request, gate_fd)
                finally:
                    os.close(gate_fd)
            case Serving():
                await self._tune(request.session)
                return Done()
            case EndSession():
                worker = self._workers.pop(request.session, None)
                if worker is not None:  # else it has gone already, and the gate was told
                    await workers.stop(worker, sealed=True)
                return Done()
        raise ProtocolError("the launcher mounts, restores and ends; it knows no other request")

    async def end_all(self) -> None:
        """Ask every worker to lock and end, all at once; returns when they are gone."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for worker in self._workers.values():
                    nursery.start_soon(partial(workers.stop, worker, sealed=False))
        self._workers.clear()

    async def _start(self, request: StartMount | StartRestore, gate_fd: int) -> Started:
        if request.session in self._workers:
            raise ProtocolError("that session has been started already")
        if isinstance(request, StartMount):
            worker, path = await self._mount(request, gate_fd)
        else:
            worker, path = await self._restore(request, gate_fd)
        self._workers[request.session] = worker
        self._nursery.start_soon(self._watch, request.session, worker)
        return Started(path, worker.process.pid)

    async def _mount(self, request: StartMount, gate_fd: int) -> tuple[Worker, str]:
        runtime = self._settings.runtime
        point = workers.make_point(
            runtime, request.uid, request.vault_name, private=not self._privileged
        )
        if not self._privileged:
            return Worker(await workers.start_mounting(gate_fd, point), point), str(point)
        fuse_fd = -1
        try:
            fuse_fd = mounting.mount_fuse(point, request.uid, request.gid)
            process = await workers.start_mounted(gate_fd, fuse_fd, self._settings.worker)
        except BaseException:
            mounting.detach(point)
            workers.remove(point)
            raise
        finally:
            if fuse_fd >= 0:
                os.close(fuse_fd)  # the worker's copy is the last: with it the mount dies
        return Worker(process, point), str(point)

    async def _tune(self, session: str) -> None:
        """Raise the mount's read-ahead: the kernel sets it anew when the worker first answers."""
        worker = self._workers.get(session)
        if self._privileged and worker is not None and worker.point is not None:
            await trio.to_thread.run_sync(mounting.raise_read_ahead, worker.point)

    async def _restore(self, request: StartRestore, gate_fd: int) -> tuple[Worker, str]:
        target_fd = open_target(request.target, request.requester_uid, privileged=self._privileged)
        try:
            process = await workers.start_restoring(gate_fd, target_fd, privileged=self._privileged)
        finally:
            os.close(target_fd)
        return Worker(process), request.target

    async def _watch(self, session: str, worker: Worker) -> None:
        """Wait for a worker's end; one that nobody asked for is cleared away and told of."""
        status = await worker.process.wait()
        if worker.ending:
            return
        self._workers.pop(session, None)
        with trio.CancelScope(shield=True):
            await workers.clear(worker)
        with suppress(ProtocolError):  # the gate may have gone as well
            await self._connection.send(SessionGone(session, status))
