"""Reading small files, a directory's together: each looked at, read whole, looked at again.

One call of the kernel after the other, and nothing else between them: 300,000 files are read in
the time that ten microseconds each take (docs/decisions/0012).  What is odd in any way is left to
`FileReader`: a file that changed lately or while it was read, has holes, is an image to be cut,
is another's or gone.
"""

import os
import resource
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from agent.backup.listing import Found, small_file_entry, xattrs
from agent.clock import Clock
from agent.crypto.naming import object_name
from agent.encode.elements import may_begin
from agent.model.tree import EXTENT, Entry

KiB = 1024
SMALL_BYTES = 128 * KiB  # one chunk, whatever is in it: docs/format.md 5
GROUP_BYTES = 1024 * KiB  # held before they are named and stored together

# A file system stamps with the kernel's clock tick, 10 ms at most (HZ=100), and when a write(2)
# begins.  A file changed again within one tick keeps its ctime, and so does one in whose middle the
# writer has lost its processor: seen for 20 ms on a machine with four times as much to do as it has
# processors.  So a file is read only when its ctime lies further back.
RACY_NS = 60_000_000

# Where reading waits for a disk, file after file, that many are opened ahead and the disk is told:
# it then has all of them to fetch at once, instead of one.
AHEAD_FILES = 64
AHEAD_READS = 32  # how long this goes on once nothing comes from there any more: directories

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 512  # the unit of st_blocks


StoreAll = Callable[[Sequence[bytes]], list[bytes]]
"""Stores chunks unless they are known, and returns their ids."""


class _Read(NamedTuple):
    """A file as it was: nothing of it changed between two looks."""

    name: bytes
    stat: os.stat_result
    xattrs: tuple[tuple[bytes, bytes], ...]
    data: bytes


def _blocks_fetched() -> int:
    """Return how many blocks of 512 bytes came from a disk for this thread.

    Not how often it waited: threads that read from memory wait for each other, too.
    """
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


class SmallFiles:
    """Reads the small files of one directory at a time; not for concurrent use."""

    def __init__(self, store: StoreAll, clock: Clock) -> None:
        """Take what stores contents, many at once."""
        self._store = store
        self._clock = clock
        self._flags = _OPEN | os.O_NOATIME
        self._patience = 0  # reads for which the disk is still asked ahead

    def read(self, directory: int, found: Iterable[Found], device: int) -> Iterator[Entry]:
        """Yield the entries of those of `found` that are small and at rest; pass over the others.

        `directory` is open, and `device` the source's own.
        """
        group: list[_Read] = []
        size = 0
        settled_ns = self._clock.now_ns() - RACY_NS  # of the past by the time a file is read
        blocks, files = _blocks_fetched(), 0
        for name, fd in self._opened(directory, found):
            files += 1
            one = self._one(fd, name, settled_ns)
            if one is None:
                continue
            group.append(one)
            size += len(one.data)
            if size >= GROUP_BYTES:
                yield from self._entries(group, device)
                group, size = [], 0
        self._note_fetched(_blocks_fetched() - blocks, files)
        yield from self._entries(group, device)

    def _note_fetched(self, blocks: int, files: int) -> None:
        """Have the disk asked ahead for a while if one file of eight, or more, came from it."""
        if blocks > files:  # a page is eight blocks
            self._patience = AHEAD_READS
        elif self._patience:
            self._patience -= 1

    def _opened(self, directory: int, found: Iterable[Found]) -> Iterator[tuple[bytes, int]]:
        """Yield name and descriptor of small files; the taker closes what was yielded."""
        ahead = AHEAD_FILES if self._patience else 0
        opened: deque[tuple[bytes, int]] = deque()
        try:
            for name, seen in found:
                if seen.st_size > SMALL_BYTES:
                    continue
                fd = self._open(directory, name)
                if fd < 0:
                    continue
                opened.append((name, fd))
                if ahead:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
                if len(opened) > ahead:
                    yield opened.popleft()
            while opened:
                yield opened.popleft()
        finally:
            for _, fd in opened:
                os.close(fd)

    def _open(self, directory: int, name: bytes) -> int:
        """Return a descriptor, or -1 where the kernel refuses."""
        try:
            return os.open(name, self._flags, dir_fd=directory)
        except PermissionError:
            self._flags = _OPEN  # only an owner, or CAP_FOWNER, may ask for O_NOATIME
        except OSError:
            return -1
        return -1

    def _one(self, fd: int, name: bytes, settled_ns: int) -> _Read | None:
        """Read a file and close it; return None where it is odd, or the kernel refuses anything."""
        try:
            before = os.fstat(fd)
            size = before.st_size
            if (
                not stat.S_ISREG(before.st_mode)
                or size > SMALL_BYTES
                or before.st_blocks * _BLOCK < size
                or before.st_ctime_ns > settled_ns
            ):
                return None
            data = os.read(fd, size + 1)
            kept = xattrs(fd)
            after = os.fstat(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        is_whole = (
            len(data) == size == after.st_size
            and after.st_ctime_ns == before.st_ctime_ns
            and after.st_mtime_ns == before.st_mtime_ns
        )
        return _Read(name, before, kept, data) if is_whole and not may_begin(data) else None

    def _entries(self, group: list[_Read], device: int) -> Iterator[Entry]:
        ids = iter(self._store([one.data for one in group if one.data]))
        for name, st, kept, data in group:
            content = EXTENT.pack(next(ids), len(data)) if data else b""
            yield small_file_entry(name, st, device, kept, content, object_name(data))
