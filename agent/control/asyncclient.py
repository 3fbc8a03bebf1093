"""Calling a Vitrine service from another one, over one lasting connection."""

import socket
from collections.abc import Callable, Sequence

import trio

from agent.control.client import final, not_running
from agent.control.connection import Connection
from agent.control.messages import Message, Progress
from agent.errors import ServiceNotRunning


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
        raise not_running(path, service, error) from error
    return Connection(connecting)
