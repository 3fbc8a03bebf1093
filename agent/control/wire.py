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
from typing import Protocol

import msgspec

from agent.control import agent_messages, gate_messages, session_messages
from agent.control.messages import Message
from agent.errors import ProtocolError
from agent.model.decoding import UNDECODABLE

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # bounds what a peer can make us hold
LENGTH = struct.Struct("<I")
_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)
_FDS_A_BATCH = 200  # SCM_MAX_FD is 253
FD_BYTE = b"\0"

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


class HasOptions(Protocol):
    """A connected socket, Python's own or trio's."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return the value of an option of the socket."""
        ...


def peer_of(connected: HasOptions) -> Peer:
    """Return who connected to, or made, this Unix socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid, gid, pid)


def encode(message: Message) -> bytes:
    """Return the frame of `message`; raise ProtocolError where it is over the limit."""
    payload = _encoder.encode(message)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a {type(message).__name__} of {len(payload)} bytes is too long")
    return LENGTH.pack(len(payload)) + payload


def decode(payload: bytes | bytearray) -> Message:
    """Return the message in a frame's payload; raise ProtocolError where it is none of ours."""
    try:
        return _decoder.decode(payload)
    except UNDECODABLE:
        # the decoder's own text may quote what the peer sent
        raise ProtocolError("the peer sent what is no message of ours") from None


def payload_length(header: bytes | bytearray) -> int:
    """Return the length that a frame's 4 bytes announce; raise ProtocolError over the limit."""
    (length,) = LENGTH.unpack(header)
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"the peer announced a message of {length} bytes")
    return int(length)


def rights(fds: Sequence[int]) -> "list[tuple[int, int, array.array[int]]]":
    """Return the ancillary data that sends a batch of descriptors."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def fd_batches(fds: Sequence[int]) -> list[Sequence[int]]:
    """Return descriptors in batches that the kernel takes."""
    return [fds[at : at + _FDS_A_BATCH] for at in range(0, len(fds), _FDS_A_BATCH)]


def received_fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a byte."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


FDS_ROOM = socket.CMSG_SPACE(_FDS_A_BATCH * array.array("i").itemsize)


def gone(error: OSError) -> ProtocolError:
    """Return the error for a peer that has hung up."""
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
            for batch in fd_batches(fds):
                self._socket.sendmsg([FD_BYTE], rights(batch))
        except OSError as error:
            raise gone(error) from error

    def receive(self) -> Message | None:
        """Return the next message, or None at the end; raise ProtocolError on garbage."""
        header = self._exactly(LENGTH.size)
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
            data, ancillary, _, _ = self._socket.recvmsg(1, FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
            batch = received_fds(ancillary)
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
