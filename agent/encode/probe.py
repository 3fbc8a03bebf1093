"""How data are best squeezed, from a few pieces of them: docs/decisions/0010-pixel-codecs.md."""

from typing import Final

from agent.encode.blosc import Buffer
from agent.encode.numeric import ITEM_BYTES, MIN_PLAIN_BYTES
from agent.encode.tools import Tools, lent
from agent.model.location import Codec

WORTH_IT: Final = 0.97  # squeezed to more than this: not worth opening again on every read
CLEARLY: Final = 0.9  # of zstd's size, in the sample: further apart zstd finds more than there
_PIECES: Final = 8  # of all parts, for the middle of an image may be its black border
_PIECE_BYTES: Final = 528  # whole steps of 16 items of 1 to 4 bytes
_SAMPLE_BYTES: Final = _PIECES * _PIECE_BYTES
_ITEMS_STEP: Final = 48  # pieces begin at the same byte of an item
_FRAMING_BYTES: Final = 36  # of a chunk of one block: a sample pays them, a frame does not
_AT_LEAST_BYTES: Final = 32  # saved: of a sample that is nothing but one colour no one can tell


def probe(plain: Buffer, likely: int = 0) -> tuple[Codec, int]:
    """Return the codec that a sample of `plain` speaks for, and for numbers the item's bytes.

    Where somebody says how many bytes an item is likely to have, no other number is tried if the
    sample bears it out: a wrong word costs space, never data.
    """
    if len(plain) < MIN_PLAIN_BYTES:
        return (Codec.ZSTD if len(plain) > 64 else Codec.RAW), 0
    sample = _sample(plain)
    codec, item_bytes = Codec.ZSTD, 0
    with lent() as tools:
        least = _size(sample, tools, 0)
        if not (sample.isascii() and 0 not in sample):  # text
            bound = min(CLEARLY * least, least - _AT_LEAST_BYTES)
            for item in _candidates(likely):
                size = _size(sample, tools, item)
                if size < bound:
                    codec, item_bytes, bound, least = Codec.BLOSC2, item, size, size
                    if item == likely:
                        break
    return (codec, item_bytes) if least <= WORTH_IT * _SAMPLE_BYTES else (Codec.RAW, 0)


def _candidates(likely: int) -> tuple[int, ...]:
    """Return the numbers of bytes to try, a likely one first."""
    return (likely, *ITEM_BYTES) if likely in ITEM_BYTES else ITEM_BYTES


def _sample(plain: Buffer) -> bytes:
    view = memoryview(plain)
    apart = len(view) // _PIECES
    apart -= apart % _ITEMS_STEP
    first = (apart - _PIECE_BYTES) // 2
    starts = range(first, first + _PIECES * apart, apart)
    return b"".join(view[start : start + _PIECE_BYTES] for start in starts)


def _size(sample: bytes, tools: Tools, item_bytes: int) -> int:
    into = tools.squeezed(2 * _SAMPLE_BYTES)
    squeezer = tools.compressor(item_bytes, _SAMPLE_BYTES)
    used = squeezer.compress(sample, _SAMPLE_BYTES, into, 2 * _SAMPLE_BYTES)
    return used - _FRAMING_BYTES if used > 0 else _SAMPLE_BYTES
