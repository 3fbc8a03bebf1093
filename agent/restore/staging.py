"""A file's bytes on their way to its descriptor: gathered, and in large pieces past the page cache.

A restore writes more than the machine's memory and reads none of it again: in the page cache it
would push out what the machine works with, and wait there for the disk until the end.  So what is
large and lies aligned goes by O_DIRECT.  Where a file system has no such thing, and for what is
small or not aligned, the page cache is used.
"""

import errno
import fcntl
import os
from collections.abc import Callable

from agent.fresh import mapped
from agent.restore import writeback

KiB = 1024
ROOM_BYTES = 4096 * KiB  # most files fit; larger ones go to the disk in pieces of this size
DIRECT_FROM_BYTES = 256 * KiB  # smaller ones are left for the kernel to bring into order
_BLOCK = 4096  # what O_DIRECT takes everywhere: offset, length and address


class Staging:
    """Room for the bytes of one file at a time.  For one thread."""

    def __init__(self, taken: Callable[[memoryview], None]) -> None:
        """Have `taken` hear of every byte of each file, in order, holes excepted."""
        self._room = memoryview(mapped(ROOM_BYTES))
        self._taken = taken
        self._descriptor = -1
        self._at = 0  # in the file, of the first byte of the room
        self._used = 0
        self._told = 0  # of what is used, how much `taken` has heard of
        self._is_direct = True  # until a file system says that it cannot

    def begin(self, descriptor: int) -> None:
        """Take the next file; what was left of another is dropped."""
        self._descriptor, self._at, self._used, self._told = descriptor, 0, 0, 0

    def room(self, length: int) -> memoryview | None:
        """Return where the next `length` bytes go, to be filled before `filled`; None if too many.

        Its content is what other files left.
        """
        if self._used + length > ROOM_BYTES:
            self._write(self._used - self._used % _BLOCK)
            if self._used + length > ROOM_BYTES:
                return None
        return self._room[self._used : self._used + length]

    def filled(self, length: int) -> None:
        """Append what was written to `room`."""
        self._used += length

    def add(self, data: memoryview) -> None:
        """Append bytes."""
        start, length = 0, len(data)
        while start < length:
            step = min(length - start, ROOM_BYTES - self._used)
            self._room[self._used : self._used + step] = data[start : start + step]
            self._used += step
            start += step
            if self._used == ROOM_BYTES:
                self._write(ROOM_BYTES)

    def skip(self, length: int) -> None:
        """Leave out bytes."""
        self.flush()
        self._at += length

    def flush(self) -> None:
        """Write what is gathered."""
        self._write(self._used)

    def _write(self, length: int) -> None:
        """Write that much of what is gathered; the rest, of less than a block, moves up."""
        if self._told < self._used:
            self._taken(self._room[self._told : self._used])
        data = self._room[:length]
        whole = length - length % _BLOCK
        written = 0
        if whole >= DIRECT_FROM_BYTES and self._is_direct and not self._at % _BLOCK:
            written = self._directly(data[:whole])
        if written < length:
            write_at(self._descriptor, data[written:], self._at + written)
            writeback.begin(self._descriptor, length - written)
        self._at += length
        self._told = self._used = self._used - length
        if self._used:
            self._room[: self._used] = self._room[length : length + self._used]

    def _directly(self, data: memoryview) -> int:
        """Write past the page cache; return how much, which is nothing where none can be."""
        flags = os.O_WRONLY
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
            written = os.pwrite(self._descriptor, data, self._at)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._is_direct = False
            written = 0
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
        return written


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data`."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
