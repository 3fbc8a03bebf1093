"""Callers of a Vitrine service: one for the command line, one for a service that calls another."""

import socket
from collections.abc import Callable, Sequence

import trio

from agent import errors
from agent.control.messages import Failed, Message, Progress
from agent.control.wire import BlockingConnection, Connection
from agent.errors import ProtocolError, ServiceNotRunning, VitrineError


def call(
    path: str,
    request: Message,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    service: str = "service",
) -> Message:
    """Return the final answer of the service at `path`.

    Raises the VitrineError that the service named, ServiceNotRunning where nobody listens, and
    ProtocolError where it hung up first.  `on_progress` is called for each Progress before that.
    """
    connection = BlockingConnection(_connected(path, service))
    try:
        connection.send(request)
        message = connection.receive()
        while isinstance(message, Progress):
            if on_progress is not None:
                on_progress(message)
            message = connection.receive()
    finally:
        connection.close()
    return final(message)


def final(message: Message | None) -> Message:
    """Return an answer that is none of failure; raise what failed."""
    if message is None:
        raise ProtocolError("the service hung up before it answered", hint="see its log")
    if isinstance(message, Failed):
        raise error_of(message)
    return message


def error_of(failed: Failed) -> VitrineError:
    """Return the error that a service told us of; an unknown name becomes its base."""
    kind = getattr(errors, failed.error, VitrineError)
    if not (isinstance(kind, type) and issubclass(kind, VitrineError)):
        kind = VitrineError
    return kind(failed.message, hint=failed.hint)


class AsyncClient:
    """A lasting connection to a service that also speaks unasked.

    `run` is a task of the caller's nursery and must be running for `call` to return; it ends when
    the service hangs up, and every call that waits then raises ServiceNotRunning.
    """

    def __init__(
        self,
        connection: Connection,
        unasked: tuple[type[Message], ...] = (),
        on_unasked: Callable[[Message], None] | None = None,
    ) -> None:
        """Take the connection, and which messages are no answers and who hears them."""
        self._connection = connection
        self._unasked = unasked
        self._on_unasked = on_unasked
        self._turn = trio.Lock()
        self._answers_in, self._answers = trio.open_memory_channel[Message](1)

    async def run(self) -> None:
        """Receive until the service hangs up; raises ProtocolError on garbage."""
        async with self._answers_in:
            while (message := await self._connection.receive()) is not None:
                if isinstance(message, self._unasked):
                    if self._on_unasked is not None:
                        self._on_unasked(message)
                elif not isinstance(message, Progress):
                    await self._answers_in.send(message)

    async def call(self, request: Message, fds: Sequence[int] = ()) -> Message:
        """Return the final answer to `request`, or raise what the service named.

        Shielded from cancellation once sent: an answer that nobody takes would be taken for the
        next request's.
        """
        async with self._turn:
            with trio.CancelScope(shield=True):
                try:
                    await self._connection.send(request, fds)
                    answer = await self._answers.receive()
                except trio.EndOfChannel:
                    raise ServiceNotRunning("the service hung up before it answered") from None
        return final(answer)

    def close(self) -> None:
        """Hang up; `run` then ends."""
        self._connection.close()


async def connect(path: str, *, service: str = "service") -> Connection:
    """Return a connection to the service at `path`; raise ServiceNotRunning where none listens."""
    connecting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await connecting.connect(path)
    except OSError as error:
        connecting.close()
        raise _not_running(path, service, error) from error
    return Connection(connecting)


def _connected(path: str, service: str) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.connect(path)
    except OSError as error:
        connecting.close()
        raise _not_running(path, service, error) from error
    return connecting


def _not_running(path: str, service: str, error: OSError) -> ServiceNotRunning:
    reason = (error.strerror or "no answer").lower()
    return ServiceNotRunning(
        f"the {service} does not answer at {path}: {reason}",
        hint=f"start it with `vitrine {service}`, `systemctl start vitrine-{service}` "
        "or `vitrine up`",
    )
