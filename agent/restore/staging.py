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
        self._is_direct = True  # until a file system says that it cannot

    def begin(self, descriptor: int) -> None:
        """Take the next file, which is empty; what was left of another is dropped."""
        self._descriptor, self._at, self._used = descriptor, 0, 0

    def add(self, data: memoryview) -> None:
        """Append bytes."""
        length = len(data)
        start = 0
        while start < length:
            step = min(length - start, ROOM_BYTES - self._used)
            self._room[self._used : self._used + step] = data[start : start + step]
            self._used += step
            start += step
            if self._used == ROOM_BYTES:
                self.flush()

    def skip(self, length: int) -> None:
        """Leave out bytes."""
        self.flush()
        self._at += length

    def flush(self) -> None:
        """Write what is gathered."""
        if not self._used:
            return
        data = self._room[: self._used]
        self._taken(data)
        whole = self._used - self._used % _BLOCK
        written = 0
        if whole >= DIRECT_FROM_BYTES and self._is_direct and not self._at % _BLOCK:
            written = self._directly(data[:whole])
        if written < self._used:
            write_at(self._descriptor, data[written:], self._at + written)
            writeback.begin(self._descriptor, self._used - written)
        self._at += self._used
        self._used = 0

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
