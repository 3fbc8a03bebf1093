"""Reading one file: content cut into chunks, holes kept, and no torn state passed off as whole.

The file is looked at (fstat) before and after; where it changed meanwhile it is read again, and
after `TRIES` it is marked.  What is marked, or could not be read, is read again by the next full
scan.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from agent.backup.holes import stretches
from agent.backup.listing import Found, make_entry, special_entry, xattrs
from agent.backup.small import RACY_NS
from agent.clock import Clock
from agent.crypto.naming import ObjectHasher, object_name
from agent.encode.chunker import Chunker
from agent.encode.cuts import LOOK_AHEAD_BYTES, Cuts, cuts_of
from agent.encode.dicom import Header, read_header
from agent.encode.elements import has_magic
from agent.encode.paged import run_cuts
from agent.fresh import mapped
from agent.model.ids import TreeId
from agent.model.tree import HOLE, DicomIdentity, Entry, Flaw
from agent.repository.trees import fold_extents

MiB = 1024 * 1024
BUFFER_BYTES = 6 * MiB  # more than the largest chunk, so that one is always final; 2 MiB are new
TRIES = 3

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_ANOTHER_KIND = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
_ZEROS: Final = memoryview(bytes(MiB))

Extents = list[tuple[bytes, int]]


@dataclass(slots=True)
class _Content:
    """What a long file turns out to hold, as it is read."""

    extents: Extents = field(default_factory=list)
    digest: ObjectHasher = field(default_factory=ObjectHasher)
    identity: DicomIdentity | None = None
    likely: int = 0  # bytes of an item


class Sink(Protocol):
    """Takes what a file consists of, and names it."""

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Store a chunk unless it is known; `data` may be reused as soon as this returns.

        `likely` is how many bytes an item of it has, if there is somebody who says so.
        """
        ...

    def page(self, page: bytes) -> TreeId:
        """Store a content page unless it is known."""
        ...


def pause(seconds: float) -> None:
    """Wait, in a thread."""
    threading.Event().wait(seconds)


class FileReader:
    """Reads files one at a time; not for concurrent use."""

    def __init__(
        self,
        chunker: Chunker,
        sink: Sink,
        clock: Clock,
        breathe: Callable[[], None],
        wait: Callable[[float], None] = pause,
    ) -> None:
        """Take where chunks go; `breathe` is called between the pieces of a long file."""
        self._chunker = chunker
        self._sink = sink
        self._clock = clock
        self._breathe = breathe
        self._wait = wait
        self._view = memoryview(mapped(BUFFER_BYTES))  # small files touch little of it
        self._noatime = os.O_NOATIME

    def read(self, directory: int, found: Found, device: int) -> Entry | None:
        """Return the entry of the file `found` in the open `directory`, or None where it is gone.

        Where something else took its name, the entry is of that; a directory is left to the next
        scan.  `device` is the source's own.
        """
        try:
            return self._read_again(directory, found, device)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._unread(directory, found, device, error)

    def _unread(self, directory: int, found: Found, device: int, error: OSError) -> Entry | None:
        try:
            now = os.stat(found.name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(now.st_mode):
                return make_entry(found.name, now, device, flaw=Flaw.UNREADABLE)
            if stat.S_ISDIR(now.st_mode) or error.errno not in _ANOTHER_KIND:
                return None
            return special_entry(directory, Found(found.name, now), device)
        except FileNotFoundError:
            return None

    def _read_again(self, directory: int, found: Found, device: int) -> Entry:
        for left in reversed(range(TRIES)):
            fd = self._open(directory, found.name)
            try:
                before = self._settled(fd)
                entry = self._entry(fd, found.name, before, device)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if _same(before, after) and entry.size == before.st_size:
                return entry
            if not left:
                return msgspec.structs.replace(entry, flaw=Flaw.CHANGED_WHILE_READ)
        raise AssertionError("unreachable: the last try returns")

    def _open(self, directory: int, name: bytes) -> int:
        try:
            return os.open(name, _OPEN | self._noatime, dir_fd=directory)
        except PermissionError:
            if not self._noatime:
                raise
            fd = os.open(name, _OPEN, dir_fd=directory)
            self._noatime = 0  # only an owner, or CAP_FOWNER, may: do not ask for every file
            return fd

    def _settled(self, fd: int) -> os.stat_result:
        """Return the file's state once its ctime is old enough to tell a later change."""
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ENXIO, "no file any more")
        age = self._clock.now_ns() - st.st_ctime_ns
        if not 0 <= age < RACY_NS:
            return st
        self._wait((RACY_NS - age) / 1e9)
        return os.fstat(fd)

    def _entry(self, fd: int, name: bytes, st: os.stat_result, device: int) -> Entry:
        extents, digest, identity = self._content(fd, st)
        content, depth = fold_extents(extents, self._sink.page)
        return msgspec.structs.replace(
            make_entry(name, st, device, xattrs=xattrs(fd)),
            size=sum(length for _, length in extents),
            content=content,
            depth=depth,
            digest=digest,
            dicom=identity,
        )

    def _content(self, fd: int, st: os.stat_result) -> tuple[Extents, bytes, DicomIdentity | None]:
        """Return the extents of the file's first `st_size` bytes, their digest, their identity."""
        size = st.st_size
        if size <= len(self._view) and st.st_blocks * 512 >= size:
            data = self._view[: self._fill(fd, 0, 0, size)]
            header = read_header(data, len(data))
            cuts = cuts_of(header.layout, run_cuts(data, len(data)) or self._chunker)
            extents = [self._stored(chunk, header.item_bytes) for chunk in cuts.cut(data)]
            return extents, object_name(data), _identity(header, data)
        content = _Content()
        for start, end, is_hole in stretches(fd, st):
            if is_hole:
                content.extents.append((HOLE, end - start))
                self._hash_zeros(content.digest, end - start)
            elif self._stretch(fd, (start, end), size, content) < end:
                break  # cut short while we read: the caller sees it by the size
        return content.extents, content.digest.digest(), content.identity

    def _stretch(self, fd: int, stretch: tuple[int, int], size: int, content: _Content) -> int:
        """Append the extents of a stretch of data; return where it ended."""
        (at, end), kept = stretch, 0
        cuts: Cuts | None = None
        while True:
            wanted = min(len(self._view) - kept, end - at)
            got = self._fill(fd, kept, at, wanted)
            data = self._view[: kept + got]
            content.digest.update(data[kept:])
            at += got
            final = at == end or got < wanted
            used = 0
            cuts = cuts or self._cuts(data, stretch, size, content)  # the first piece tells
            for chunk in cuts.cut(data) if final else cuts.cut_some(data):
                content.extents.append(self._stored(chunk, content.likely))
                used += len(chunk)
            if final:
                return at
            kept = len(data) - used
            self._view[:kept] = data[used:]
            self._breathe()

    def _cuts(
        self, first: memoryview, stretch: tuple[int, int], size: int, content: _Content
    ) -> Cuts:
        """Return how to cut a stretch, and note in `content` what the file's header says."""
        if stretch[0]:
            return self._chunker
        header = read_header(first, size)
        content.identity = _identity(header, first)
        content.likely = header.item_bytes
        by_content = run_cuts(first, size) or self._chunker
        return cuts_of(header.layout if stretch[1] == size else None, by_content)

    def _stored(self, chunk: memoryview, likely: int) -> tuple[bytes, int]:
        return self._sink.chunk(chunk, likely), len(chunk)

    def _fill(self, fd: int, into: int, offset: int, length: int) -> int:
        """Read up to `length` bytes into the buffer; fewer only at the file's end."""
        got = 0
        while got < length:
            read = os.preadv(fd, [self._view[into + got : into + length]], offset + got)
            if not read:
                break
            got += read
        return got

    def _hash_zeros(self, digest: ObjectHasher, length: int) -> None:
        while length:
            piece = min(length, len(_ZEROS))
            digest.update(_ZEROS[:piece])
            length -= piece
            if not length % BUFFER_BYTES:
                self._breathe()


def _identity(header: Header, data: memoryview) -> DicomIdentity | None:
    """Return whom a file is about: nobody, where it claims to be DICOM and does not say."""
    return header.identity or (DicomIdentity() if has_magic(data) else None)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )


assert BUFFER_BYTES > LOOK_AHEAD_BYTES  # noqa: S101 - or `_stretch` could not go on
