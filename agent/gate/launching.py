"""The gate's connection to the launcher: made when first needed, made again after a loss."""

from collections.abc import Callable, Sequence

import trio

from agent.control.asyncclient import AsyncClient, connect
from agent.control.messages import Message
from agent.control.session_messages import SessionGone
from agent.errors import ProtocolError, ServiceNotRunning


class LauncherLink:
    """Calls the launcher; hears of workers that ended unasked.  Lives in the gate's nursery."""

    def __init__(
        self, socket: str, nursery: trio.Nursery, on_gone: Callable[[SessionGone], None]
    ) -> None:
        """Take the launcher's socket; nothing is connected yet."""
        self._socket = socket
        self._nursery = nursery
        self._on_gone = on_gone
        self._client: AsyncClient | None = None
        self._connecting = trio.Lock()

    async def call(self, request: Message, fds: Sequence[int] = ()) -> Message:
        """Return the launcher's answer; raise ServiceNotRunning, or what it refused with."""
        client = await self._connected()
        return await client.call(request, fds)

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                connection = await connect(self._socket, service="launcher")
                client = AsyncClient(connection, (SessionGone,), self._heard)
                self._client = client
                self._nursery.start_soon(self._listen, client)
            return self._client

    async def _listen(self, client: AsyncClient) -> None:
        try:
            await client.run()
        except (ProtocolError, ServiceNotRunning):
            pass  # the same as its end: the next call connects again
        finally:
            client.close()
            if self._client is client:
                self._client = None

    def _heard(self, message: Message) -> None:
        if isinstance(message, SessionGone):
            self._on_gone(message)
