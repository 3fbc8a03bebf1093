"""Contexts and buffers of compressors: costly to make, for one thread at a time, lent to any.

There are never more of them than are in use at once, however many threads come and go.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import zstandard

from agent.encode.blosc import Compressor, Decompressor
from agent.fresh import unfilled

ZSTD_LEVEL: Final = 3  # docs/decisions/0004-compression.md
_KEPT_BYTES: Final = 4 * 1024 * 1024  # of a buffer: no chunk of a file is larger
_KEPT_DECOMPRESSORS: Final = 8  # who sealed a frame chose its blocks, and may have been hostile


class Tools:
    """What it takes to squeeze a frame and to open it again.  For one thread at a time."""

    def __init__(self) -> None:
        """Make nothing yet that may not be needed."""
        self.zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        self.unzstd = zstandard.ZstdDecompressor()
        self._compressors: dict[tuple[int, int], Compressor] = {}
        self._decompressors: dict[int, Decompressor] = {}
        self._squeezed = unfilled(_KEPT_BYTES)  # takes memory as far as it is written to
        self._plain = unfilled(_KEPT_BYTES)

    def compressor(self, item_bytes: int, block_bytes: int) -> Compressor:
        """Return the one for items and blocks of that size; 0 is of no items, for a probe."""
        found = self._compressors.get((item_bytes, block_bytes))
        if found is None:
            found = Compressor(item_bytes, block_bytes)
            self._compressors[item_bytes, block_bytes] = found
        return found

    def decompressor(self, block_bytes: int) -> Decompressor:
        """Return the one for blocks of that size: for another, it would be made anew inside."""
        found = self._decompressors.get(block_bytes)
        if found is None:
            if len(self._decompressors) >= _KEPT_DECOMPRESSORS:
                self._decompressors.clear()
            found = self._decompressors[block_bytes] = Decompressor()
        return found

    def squeezed(self, length: int) -> bytearray:
        """Return a buffer of that length or more, of what was last in it."""
        return self._squeezed if length <= _KEPT_BYTES else unfilled(length)

    def plain(self, length: int) -> bytearray:
        """Return another."""
        return self._plain if length <= _KEPT_BYTES else unfilled(length)


_idle: list[Tools] = []


@contextmanager
def lent() -> Iterator[Tools]:
    """Have tools for oneself; what raised meanwhile may have left them odd, so they are dropped."""
    try:
        tools = _idle.pop()
    except IndexError:  # nobody has given any back
        tools = Tools()
    yield tools
    _idle.append(tools)
