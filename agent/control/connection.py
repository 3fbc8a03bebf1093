"""A Unix socket as a channel of messages, for trio; agent.control.wire has the one for threads."""

import socket
from collections.abc import Sequence

import trio

from agent.control.messages import Message
from agent.control.wire import (
    FD_BYTE,
    FDS_ROOM,
    LENGTH,
    Peer,
    decode,
    encode,
    fd_batches,
    gone,
    payload_length,
    peer_of,
    received_fds,
    rights,
)
from agent.errors import ProtocolError


class Connection:
    """A Unix socket as a channel of messages, for trio; one task receives, any may send."""

    __slots__ = ("_sending", "_socket")

    def __init__(self, connected: trio.socket.SocketType) -> None:
        """Take a connected stream socket; `close` closes it."""
        self._socket = connected
        self._sending = trio.Lock()

    @classmethod
    def over(cls, connected: socket.socket) -> "Connection":
        """Return a connection over an ordinary connected socket, which it now owns."""
        connected.setblocking(False)
        return cls(trio.socket.from_stdlib_socket(connected))

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return peer_of(self._socket)

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send `message`, then `fds`, whole; raise ProtocolError where the peer has gone."""
        frame = memoryview(encode(message))
        try:
            async with self._sending:
                while frame:
                    frame = frame[await self._socket.send(frame) :]
                for batch in fd_batches(fds):
                    await self._socket.sendmsg([FD_BYTE], rights(batch))
        except OSError as error:
            raise gone(error) from error
        except trio.ClosedResourceError:
            raise ProtocolError("the connection is closed") from None

    async def receive(self) -> Message | None:
        """Return the next message, or None at the end; raise ProtocolError on garbage."""
        header = await self._exactly(LENGTH.size)
        if not header:
            return None
        length = payload_length(header)
        payload = await self._exactly(length)
        if len(payload) != length:
            raise ProtocolError("the peer hung up inside a message")
        return decode(payload)

    async def receive_fds(self, count: int) -> list[int]:
        """Return the `count` descriptors that follow a message (close-on-exec)."""
        fds: list[int] = []
        while len(fds) < count:
            data, ancillary, _, _ = await self._socket.recvmsg(1, FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
            batch = received_fds(ancillary)
            if not data or not batch:
                raise ProtocolError("the peer sent fewer descriptors than it announced")
            fds += batch
        return fds

    def close(self) -> None:
        """Hang up; a task that receives gets None."""
        self._socket.close()

    async def _exactly(self, length: int) -> bytearray:
        data = bytearray()
        while len(data) < length:
            try:
                part = await self._socket.recv(length - len(data))
            except (ConnectionResetError, trio.ClosedResourceError):
                part = b""
            if not part:
                if data:
                    raise ProtocolError("the peer hung up inside a message")
                break
            data += part
        return data
