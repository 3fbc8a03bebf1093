"""The bytes of one file: from a place in it to the chunks that hold them; holes are zeros."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from operator import itemgetter
from typing import Protocol

from agent.errors import ObjectDamaged
from agent.model.ids import ChunkId
from agent.model.tree import EXTENT, INLINE_EXTENTS, Entry, Extent, unpack_extents
from fsdriver.cache import NotCached

Bytes = bytes | memoryview
WINDOW_EXTENTS = 2048  # 1 content page; what of a long file's extents is kept while it is open
_offset = itemgetter(0)


class ContentReader(Protocol):
    """What files need of a vault's reader."""

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) from the extent that holds byte `start` on; may block."""
        ...

    def chunk(self, chunk_id: ChunkId | bytes) -> memoryview:
        """Return a chunk, verified; may block."""
        ...

    def cached_chunk(self, chunk_id: ChunkId | bytes) -> memoryview | None:
        """Return a chunk whose frame is in memory; does not block."""
        ...

    def prefetch(self, chunk_ids: list[ChunkId | bytes]) -> None:
        """Bring chunks into memory, verified; blocks."""
        ...


class Content:
    """One open file.  Thread-safe: the window is replaced whole."""

    __slots__ = ("_at_hand", "_reader", "_window", "entry")

    def __init__(self, entry: Entry, reader: ContentReader) -> None:
        """Take the file's entry; reads nothing."""
        self.entry = entry
        self._reader = reader
        self._window: list[tuple[int, Extent]] | None = None
        self._at_hand: bytes | None = None

    def read(self, offset: int, size: int) -> Bytes:
        """Return up to `size` bytes from `offset`, fewer only at the end; may block."""
        return self._read(offset, size, self._reader.chunk, may_block=True)

    def read_cached(self, offset: int, size: int) -> Bytes | None:
        """Return what `read` would if that is all in memory, else None; does not block."""
        try:
            return self._read(offset, size, self._cached_chunk, may_block=False)
        except NotCached:
            return None

    def whole_cached(self, room: memoryview) -> Bytes | None:
        """Return all bytes of a file that fits into `room`, if they are in memory, else None.

        Several pieces are put together in `room`: what is returned holds until that is used again.
        """
        size = self.entry.size
        if self._at_hand is not None:
            return self._at_hand
        try:
            pieces = self._pieces(0, size, self._cached_chunk, may_block=False)
        except NotCached:
            return None
        if len(pieces) == 1:
            return pieces[0]
        at = 0
        for piece in pieces:
            room[at : at + len(piece)] = piece
            at += len(piece)
        return room[:size]

    def take_at_hand(self, most_bytes: int) -> int:
        """Keep a copy of a file of one chunk that is in memory now; return how much it takes.

        Nothing where it is larger.  A copy, for a view would keep the whole frame from being freed.
        """
        window = self._known()
        if self.entry.size > most_bytes or len(window) != 1 or window[0][1].is_hole:
            return 0
        found = self._reader.cached_chunk(window[0][1].id)
        if found is None or len(found) != self.entry.size:
            return 0
        self._at_hand = bytes(found)
        return self.entry.size

    def chunks(self, offset: int, size: int) -> list[ChunkId | bytes]:
        """Return the chunks that hold `size` bytes from `offset`; may block."""
        end = min(offset + size, self.entry.size)
        if offset >= end:
            return []
        if _covers(self._known(), offset, end):
            extents = self._extents(offset, end, may_block=False)
        else:
            extents = list(
                takewhile(lambda each: each[0] < end, self._reader.extents(self.entry, offset))
            )
        return [extent.id for _, extent in extents if not extent.is_hole]

    def _read(
        self, offset: int, size: int, chunk: Callable[[bytes], memoryview], *, may_block: bool
    ) -> Bytes:
        end = min(offset + size, self.entry.size)
        if offset >= end:
            return b""
        pieces = self._pieces(offset, end, chunk, may_block=may_block)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pieces(
        self, offset: int, end: int, chunk: Callable[[bytes], memoryview], *, may_block: bool
    ) -> list[Bytes]:
        return [
            _piece(extent, max(offset - at, 0), min(end - at, extent.length), chunk)
            for at, extent in self._extents(offset, end, may_block=may_block)
        ]

    def _known(self) -> list[tuple[int, Extent]]:
        """Return the extents that need no reading, or those that were read last."""
        window = self._window
        if window is None:
            entry = self.entry
            is_inline = not entry.depth and len(entry.content) <= INLINE_EXTENTS * EXTENT.size
            window = self._window = list(_with_offsets(entry)) if is_inline else []
        return window

    def _extents(self, offset: int, end: int, *, may_block: bool) -> list[tuple[int, Extent]]:
        """Return the extents that hold `offset` to `end`."""
        window = self._known()
        if not _covers(window, offset, end):
            if not may_block:
                raise NotCached
            window = list(islice(self._reader.extents(self.entry, offset), WINDOW_EXTENTS))
            if not _covers(window, offset, end):
                raise ObjectDamaged("the extents of a file end before the file does")
            self._window = window
        first = bisect_right(window, offset, key=_offset) - 1
        after = bisect_right(window, end - 1, key=_offset)
        return window[first:after]

    def _cached_chunk(self, chunk_id: bytes) -> memoryview:
        found = self._reader.cached_chunk(chunk_id)
        if found is None:
            raise NotCached
        return found


def _with_offsets(entry: Entry) -> Iterator[tuple[int, Extent]]:
    at = 0
    for extent in unpack_extents(entry.content):
        yield at, extent
        at += extent.length


def _covers(window: list[tuple[int, Extent]], offset: int, end: int) -> bool:
    if not window:
        return False
    last_at, last = window[-1]
    return window[0][0] <= offset and last_at + last.length >= end


def _piece(extent: Extent, start: int, stop: int, chunk: Callable[[bytes], memoryview]) -> Bytes:
    if extent.is_hole:
        return bytes(stop - start)
    data = chunk(extent.id)
    if len(data) != extent.length:
        raise ObjectDamaged("a chunk is not as long as the file says")
    return data[start:stop]
