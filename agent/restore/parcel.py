"""What crosses between the walker and the processes that write: batches one way, counts the other.

A 4-byte little-endian length, then MessagePack; the descriptors of a batch's directories come with
its first byte.  Both ends are this program, forked; neither keys nor content cross.
"""

import socket
import struct
from collections.abc import Sequence

import msgspec

from agent.control.messages import Failed
from agent.model.tree import Entry
from agent.restore.batch import MAX_DIRECTORIES, Item
from agent.restore.tally import Done
from agent.restore.target import Opened

_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()


class Parcel(msgspec.Struct, array_like=True):
    """A batch: its directories (made, is_plain), and its files with the number of each's."""

    directories: list[tuple[bool, bool]]
    files: list[tuple[int, int, Entry]]  # directory, source, entry


_parcels = msgspec.msgpack.Decoder(Parcel)
_answers = msgspec.msgpack.Decoder(Done | Failed)


def send_batch(connected: socket.socket, items: Sequence[Item]) -> None:
    """Send a batch; raise ConnectionError where its writer has gone."""
    numbers: dict[Opened, int] = {}
    files = [(numbers.setdefault(at, len(numbers)), source, entry) for at, source, entry in items]
    parcel = Parcel([(at.made, at.is_plain) for at in numbers], files)
    payload = _framed(_encoder.encode(parcel))
    sent = socket.send_fds(connected, [payload], [at.descriptor for at in numbers])
    connected.sendall(memoryview(payload)[sent:])


def receive_batch(connected: socket.socket) -> list[Item] | None:
    """Return a batch, whose descriptors the caller closes, or None where there are no more."""
    try:
        header, descriptors, _, _ = socket.recv_fds(
            connected, _LENGTH.size, MAX_DIRECTORIES, socket.MSG_CMSG_CLOEXEC
        )
        if not header:
            return None
        parcel = _parcels.decode(_rest(connected, header))
    except (ConnectionError, EOFError):  # the walker has ended, and this process soon will
        return None
    opened = [
        Opened(descriptor, *rest)
        for descriptor, rest in zip(descriptors, parcel.directories, strict=True)
    ]
    return [Item(opened[number], source, entry) for number, source, entry in parcel.files]


def send_answer(connected: socket.socket, answer: Done | Failed) -> None:
    """Send what a batch came to, or what ended the restore in the midst of it."""
    connected.sendall(_framed(_encoder.encode(answer)))


def receive_answer(connected: socket.socket) -> Done | Failed | None:
    """Return what a batch came to, or None where its writer has gone."""
    try:
        header = connected.recv(_LENGTH.size)
        return _answers.decode(_rest(connected, header)) if header else None
    except (ConnectionError, EOFError):
        return None


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def _rest(connected: socket.socket, header: bytes) -> bytearray:
    """Return what follows a header, of which one byte is here at least; EOFError at an end."""
    if len(header) < _LENGTH.size:
        header += _exactly(connected, _LENGTH.size - len(header))
    return _exactly(connected, *_LENGTH.unpack(header))


def _exactly(connected: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connected.recv_into(view)
        if not count:
            raise EOFError("the other end has gone")
        view = view[count:]
    return data
