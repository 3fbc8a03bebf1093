"""Where to cut a file: an image at its pixels and their frames, anything else by content.

A header cut off from its pixels can be edited for a few kilobytes: docs/decisions/0009.  Cuts
between frames are at fixed distances from where the pixels start: pixels are never shifted, only
replaced, so a content-defined cut would find nothing more.

What a file claims of its frames and items costs nothing but cuts at odd places: at most an item is
looked at for every eight bytes, and no more chunks come of it than content-defined cuts could make.
"""

import struct
from collections.abc import Iterator
from typing import Protocol

from agent.encode.chunker import MAX_CHUNK_BYTES, MiB
from agent.encode.dicom import PixelLayout

GROUP_BYTES = MiB  # small frames are put together up to here, and large ones cut to it
MIN_PIXEL_BYTES = 4 * 1024  # fewer cost more as a chunk of their own than they could save
MAX_GROUP_ITEMS = 4096  # items of less than 256 bytes on average are no frames
LOOK_AHEAD_BYTES = MAX_CHUNK_BYTES + 8  # a chunk is final once this much follows its start
_ITEM = struct.Struct("<4sI")
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


class Cuts(Protocol):
    """Cuts one stream, whose pieces come in order; each begins with what was not yielded."""

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Yield all chunks of the last piece."""
        ...

    def cut_some(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the chunks that are final while more is to come."""
        ...


def cuts_of(layout: PixelLayout | None, chunker: Cuts) -> Cuts:
    """Return how to cut a file whose pixels lie so; `chunker` cuts all else, and other files."""
    if layout is None or layout.end - layout.start < MIN_PIXEL_BYTES:
        return chunker
    return _ImageCuts(layout, chunker)


class _ImageCuts:
    """Cuts one image: the header, its frames, and what follows them."""

    __slots__ = ("_at", "_chunker", "_end", "_inside", "_layout")

    def __init__(self, layout: PixelLayout, chunker: Cuts) -> None:
        """Take where the pixels lie."""
        self._layout = layout
        self._chunker = chunker
        self._at = 0  # in the file, of the next chunk
        self._inside = 0  # bytes left of an item that is cut in several
        is_cut = layout.frame_bytes or layout.is_encapsulated
        self._end = layout.end if is_cut else layout.start  # behind it, cuts are by content

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Yield all chunks of the last piece."""
        return self._cut(data, is_last=True)

    def cut_some(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the chunks that are final while more is to come."""
        return self._cut(data, is_last=False)

    def _cut(self, data: memoryview, *, is_last: bool) -> Iterator[memoryview]:
        start = self._layout.start
        if self._at < start:  # the first piece, in which the whole header lies
            yield from self._took(self._chunker.cut(data[:start]))
            data = data[start:]
        while data and self._at < self._end:
            if not is_last and len(data) < LOOK_AHEAD_BYTES:
                return
            length = self._items(data) if self._layout.is_encapsulated else self._frames()
            if length:
                yield from self._took(iter((data[:length],)))
                data = data[length:]
        by_content = self._chunker.cut if is_last else self._chunker.cut_some
        yield from self._took(by_content(data))

    def _took(self, chunks: Iterator[memoryview]) -> Iterator[memoryview]:
        for chunk in chunks:
            self._at += len(chunk)
            yield chunk

    def _frames(self) -> int:
        """Return the length of the chunk here: whole frames, or whole rows of a large one."""
        frame, row = self._layout.frame_bytes, self._layout.row_bytes
        if frame <= MAX_CHUNK_BYTES:
            return min(max(1, GROUP_BYTES // frame) * frame, self._end - self._at)
        strip = max(1, GROUP_BYTES // row) * row
        left = frame - (self._at - self._layout.start) % frame
        return min(strip if strip <= MAX_CHUNK_BYTES else GROUP_BYTES, left)

    def _items(self, data: memoryview) -> int:
        """Return the length of the chunk here: whole items, or part of a long one.

        The delimiter goes with the last; where no item follows, the rest is cut by content.
        """
        if self._inside:
            length = min(self._inside, GROUP_BYTES)
            self._inside -= length
        else:
            length = self._whole_items(data)
        if not self._inside and data[length : length + 8] == _DELIMITER:
            length += 8
            self._end = self._at + length
        return length

    def _whole_items(self, data: memoryview) -> int:
        length = 0
        for _ in range(MAX_GROUP_ITEMS):
            item = _item_bytes(data[length : length + 8])
            if not item:
                break
            if length and length + item > GROUP_BYTES:
                return length
            if item > MAX_CHUNK_BYTES:
                self._inside = item - GROUP_BYTES
                return GROUP_BYTES
            length += item
        self._end = self._at + length
        return length


def _item_bytes(head: memoryview) -> int:
    """Return the length of the item that begins so, its head included; 0 where none does."""
    if len(head) < _ITEM.size:
        return 0
    tag, length = _ITEM.unpack(head)
    return _ITEM.size + int(length) if tag == _ITEM_TAG and length != 0xFFFFFFFF else 0
