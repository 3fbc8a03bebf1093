"""How a message crosses a Unix socket: a 4-byte little-endian length, then MessagePack.

Descriptors travel after the message that announces them, each batch on a byte of its own, so a
reader that takes exactly one frame never takes, and so never loses, a descriptor.
"""

import array
import functools
import operator
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import trio

from agent.control import agent_messages, gate_messages, session_messages
from agent.control.messages import Message
from agent.errors import ProtocolError
from agent.model.decoding import UNDECODABLE

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # bounds what a peer can make us hold
_LENGTH = struct.Struct("<I")
_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)
_FDS_A_BATCH = 200  # SCM_MAX_FD is 253
_FD_BYTE = b"\0"

# what may be said is what these modules define: each is imported before the decoder is made
_VOCABULARY = (agent_messages, gate_messages, session_messages)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    functools.reduce(operator.or_, Message.__subclasses__())
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says (SO_PEERCRED, taken at connect time)."""

    uid: int
    gid: int
    pid: int


def peer_of(connected: socket.socket | trio.socket.SocketType) -> Peer:
    """Return who connected to, or made, this Unix socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid, gid, pid)


def encode(message: Message) -> bytes:
    """Return the frame of `message`; raise ProtocolError where it is over the limit."""
    payload = _encoder.encode(message)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a {type(message).__name__} of {len(payload)} bytes is too long")
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes | bytearray) -> Message:
    """Return the message in a frame's payload; raise ProtocolError where it is none of ours."""
    try:
        return _decoder.decode(payload)
    except UNDECODABLE:
        # the decoder's own text may quote what the peer sent
        raise ProtocolError("the peer sent what is no message of ours") from None


def payload_length(header: bytes | bytearray) -> int:
    """Return the length that a frame's 4 bytes announce; raise ProtocolError over the limit."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"the peer announced a message of {length} bytes")
    return int(length)


def _rights(fds: Sequence[int]) -> "list[tuple[int, int, array.array[int]]]":
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def _batches(fds: Sequence[int]) -> list[Sequence[int]]:
    return [fds[at : at + _FDS_A_BATCH] for at in range(0, len(fds), _FDS_A_BATCH)]


def _received(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


_ROOM = socket.CMSG_SPACE(_FDS_A_BATCH * array.array("i").itemsize)


def _gone(error: OSError) -> ProtocolError:
    return ProtocolError(f"the peer hung up ({error.strerror or 'connection lost'})")


class BlockingConnection:
    """A Unix socket as a channel of messages, for threads and for the command line."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        """Take a connected, blocking stream socket; `close` closes it."""
        self._socket = connected

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send `message`, then `fds`; raise ProtocolError where the peer has gone."""
        try:
            self._socket.sendall(encode(message))
            for batch in _batches(fds):
                self._socket.sendmsg([_FD_BYTE], _rights(batch))
        except OSError as error:
            raise _gone(error) from error

    def receive(self) -> Message | None:
        """Return the next message, or None at the end; raise ProtocolError on garbage."""
        header = self._exactly(_LENGTH.size)
        if not header:
            return None
        length = payload_length(header)
        payload = self._exactly(length)
        if len(payload) != length:
            raise ProtocolError("the peer hung up inside a message")
        return decode(payload)

    def receive_fds(self, count: int) -> list[int]:
        """Return the `count` descriptors that follow a message (close-on-exec)."""
        fds: list[int] = []
        while len(fds) < count:
            data, ancillary, _, _ = self._socket.recvmsg(1, _ROOM, socket.MSG_CMSG_CLOEXEC)
            batch = _received(ancillary)
            if not data or not batch:
                raise ProtocolError("the peer sent fewer descriptors than it announced")
            fds += batch
        return fds

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _exactly(self, length: int) -> bytearray:
        """Return `length` bytes, or nothing at all where the peer hung up before the first."""
        data = bytearray()
        while len(data) < length:
            try:
                part = self._socket.recv(length - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                if data:
                    raise ProtocolError("the peer hung up inside a message")
                break
            data += part
        return data


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
                for batch in _batches(fds):
                    await self._socket.sendmsg([_FD_BYTE], _rights(batch))
        except OSError as error:
            raise _gone(error) from error
        except trio.ClosedResourceError:
            raise ProtocolError("the connection is closed") from None

    async def receive(self) -> Message | None:
        """Return the next message, or None at the end; raise ProtocolError on garbage."""
        header = await self._exactly(_LENGTH.size)
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
            data, ancillary, _, _ = await self._socket.recvmsg(1, _ROOM, socket.MSG_CMSG_CLOEXEC)
            batch = _received(ancillary)
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
