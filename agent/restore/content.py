"""The bytes of a restored file: from chunks to a descriptor, holes left out, all of it hashed."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Protocol

from agent.crypto.naming import ObjectHasher
from agent.errors import ObjectDamaged
from agent.model.location import ChunkLocation
from agent.model.tree import Entry, Extent

MiB = 1024 * 1024
WINDOW_BYTES = 8 * MiB  # of one file in memory, and as much again fetched ahead
_ZEROS = bytes(MiB)


class Chunks(Protocol):
    """What restoring needs of a vault's reader.  Thread-safe; may block."""

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) in order."""
        ...

    def locate(self, id_: bytes) -> ChunkLocation:
        """Return where a chunk lies."""
        ...

    def chunk(self, chunk_id: bytes) -> memoryview:
        """Return a chunk, verified against its id."""
        ...

    def prefetch(self, chunk_ids: list[bytes]) -> None:
        """Bring chunks into memory, neighbours with one request."""
        ...


class ContentWriter:
    """Fills files.  Thread-safe."""

    def __init__(self, reader: Chunks, ahead: Executor, moved: Callable[[int], None]) -> None:
        """Fetch in `ahead`; `moved` hears of each stretch of bytes, and raises to stop."""
        self._reader = reader
        self._ahead = ahead
        self._moved = moved

    def fill(self, descriptor: int, entry: Entry) -> None:
        """Write the whole content; raise ObjectDamaged where it is not what was backed up."""
        os.ftruncate(descriptor, entry.size)  # a size that no file can have fails before any work
        hasher = ObjectHasher()
        at, length = 0, 0
        for at, extent in self._fetched(entry):
            length = extent.length
            if extent.is_hole:
                self._skip(length, hasher)
            else:
                data = self._reader.chunk(extent.id)
                if len(data) != length:
                    raise ObjectDamaged("a chunk is not as long as its file says")
                _write_at(descriptor, data, at)
                hasher.update(data)
                self._moved(length)
        if at + length != entry.size:
            raise ObjectDamaged("a file's extents do not add up to its size")
        # every chunk was checked by its id; this checks that they are this file's, in this order
        if entry.digest and hasher.digest() != entry.digest:
            raise ObjectDamaged("a file's bytes are not those that were backed up")

    def _fetched(self, entry: Entry) -> Iterator[tuple[int, Extent]]:
        """Yield the extents; while those of one window are written, the next is fetched."""
        if entry.size <= WINDOW_BYTES:  # fetched already, with its batch
            yield from self._reader.extents(entry)
            return
        windows = _windows(self._reader.extents(entry))
        current = next(windows, [])
        self._reader.prefetch(_ids(current))
        while current:
            following = next(windows, [])
            coming = self._ahead.submit(self._reader.prefetch, _ids(following))
            yield from current
            coming.result()  # waits: or a fast network would fill the cache and push out what waits
            current = following

    def _skip(self, length: int, hasher: ObjectHasher) -> None:
        """Hash a hole, which reads as zeros, and write nothing."""
        while length > 0:
            zeros = min(length, MiB)
            hasher.update(_ZEROS if zeros == MiB else _ZEROS[:zeros])
            self._moved(zeros)
            length -= zeros


def _windows(
    extents: Iterator[tuple[int, Extent]],
) -> Iterator[list[tuple[int, Extent]]]:
    window: list[tuple[int, Extent]] = []
    held = 0
    for at, extent in extents:
        window.append((at, extent))
        held += 0 if extent.is_hole else extent.length
        if held >= WINDOW_BYTES or len(window) >= 4096:
            yield window
            window, held = [], 0
    if window:
        yield window


def _ids(window: list[tuple[int, Extent]]) -> list[bytes]:
    return [extent.id for _, extent in window if not extent.is_hole]


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
