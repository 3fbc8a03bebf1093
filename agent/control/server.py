"""A service on a Unix socket: who calls, what is asked, and exactly one final answer.

The kernel says who calls.  What goes wrong on purpose (a VitrineError) is told to the caller by
name; what goes wrong by mistake is logged by its class alone, for its text may hold names.
"""

import errno
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from agent.control.connection import Connection
from agent.control.messages import Failed, Message, Progress
from agent.control.wire import Peer
from agent.errors import ConfigInvalid, ProtocolError, VitrineError

CONNECTIONS_A_USER = 16  # one user must not keep the others out
_BACKLOG = 64
_PROGRESS_QUEUE = 4

log = logging.getLogger(__name__)


class Reply:
    """The way back to the caller while its request is carried out."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        """Take the caller's connection."""
        self._connection = connection

    async def progress(self, progress: Progress) -> None:
        """Tell the caller how far it has come; raise ProtocolError where it has hung up."""
        await self._connection.send(progress)

    async def receive_fds(self, count: int) -> list[int]:
        """Return the descriptors that the request announced; the handler closes them."""
        return await self._connection.receive_fds(count)


@asynccontextmanager
async def progress_to(reply: Reply) -> AsyncIterator[Callable[[Progress], None]]:
    """Give a function that tells the caller how far it has come, without waiting for them.

    A slow terminal misses steps.  A caller who has hung up cancels what runs inside, with
    ProtocolError.
    """
    send, receive = trio.open_memory_channel[Progress](_PROGRESS_QUEUE)

    def tell(step: Progress) -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            send.send_nowait(step)

    async def forward() -> None:
        async for step in receive:
            await reply.progress(step)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(forward)
        with send:
            yield tell


Handler = Callable[[Peer, Message, Reply], Awaitable[Message]]
"""Carries out one request and returns its final answer, or raises a VitrineError."""

OnConnection = Callable[[Connection], Awaitable[None]]


async def listen(path: str, mode: int = 0o600) -> trio.SocketListener:
    """Return a listener at `path` with permission bits `mode`, in place of a dead one.

    Raises ConfigInvalid where somebody else listens there, or the place cannot be used.
    """
    _remove_dead(path)
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # bound shut, then opened: nobody connects before the bits are right
        before = os.umask(0o777)
        try:
            await listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
        _set_mode(path, mode)
    except OSError as error:
        listening.close()
        raise ConfigInvalid(f"cannot listen at {path}: {error.strerror}") from error
    return trio.SocketListener(listening)


def _set_mode(path: str, mode: int) -> None:
    Path(path).chmod(mode)


def inherited(fd: int) -> trio.SocketListener:
    """Return the listener that the service manager opened as descriptor `fd`."""
    listening = socket.socket(fileno=fd)
    listening.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def serve(
    listener: trio.SocketListener,
    handle: Handler,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer every caller's requests with `handle`, each connection in a task, until cancelled."""
    await serve_connections(listener, partial(answer, handle=handle), task_status=task_status)


async def serve_connections(
    listener: trio.SocketListener,
    on_connection: OnConnection,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run `on_connection` for every caller, at most CONNECTIONS_A_USER at once for one user."""
    open_by_uid: Counter[int] = Counter()

    async def one(stream: trio.SocketStream) -> None:
        connection = Connection(stream.socket)
        uid = connection.peer.uid
        open_by_uid[uid] += 1
        try:
            if open_by_uid[uid] <= CONNECTIONS_A_USER:
                await on_connection(connection)
        finally:
            open_by_uid[uid] -= 1
            connection.close()

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, one, [listener]))
        task_status.started()


async def answer(connection: Connection, handle: Handler) -> None:
    """Answer the requests of one connection, one after the other, until the caller hangs up."""
    peer = connection.peer
    reply = Reply(connection)
    try:
        while (request := await connection.receive()) is not None:
            await connection.send(await _carried_out(peer, request, reply, handle))
    except ProtocolError as error:
        log.info("a caller with uid %d was dropped: %s", peer.uid, error.message)


async def _carried_out(peer: Peer, request: Message, reply: Reply, handle: Handler) -> Message:
    try:
        return await handle(peer, request, reply)
    except Exception as error:  # noqa: BLE001 - the boundary: every request gets an answer
        return failure(error)


def failure(error: Exception) -> Failed:
    """Return what a caller is told of `error`; log the class of what should not have happened."""
    cause = _only_leaf(error)
    if isinstance(cause, VitrineError):
        return Failed(type(cause).__name__, cause.message, cause.hint)
    log.error("a request failed: %s", type(cause).__qualname__)
    return Failed(VitrineError.__name__, "internal error", "see the service's log")


def _only_leaf(error: Exception) -> Exception:
    """Return what a nursery wrapped, where it wrapped one thing."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _remove_dead(path: str) -> None:
    """Remove the socket that a dead server left at `path`."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise ConfigInvalid(f"cannot listen at {path}: something else is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink()
            return
    raise ConfigInvalid(
        f"cannot listen at {path}: another process does",
        hint="stop the other one first",
    )
