"""Codec 2, pixels and other numbers: a Blosc2 chunk of the one kind in docs/format.md 4.

Whoever sealed a frame may have been hostile, and libblosc2 takes many kinds of chunk that are of no
use here.  So each byte that steers it is checked before it sees any: what is left to go wrong is
what a Zstandard frame decodes to.
"""

import struct
from contextlib import suppress
from typing import Final

from agent.encode.blosc import Buffer
from agent.encode.tools import Tools, lent
from agent.errors import ObjectDamaged
from agent.fresh import unfilled

KiB: Final = 1024
ITEM_BYTES: Final = (1, 2, 3, 4)
MIN_PLAIN_BYTES: Final = 32 * KiB  # a smaller block is no gain over zstd
_BLOCK_BYTES: Final = 128 * KiB  # larger ones make 0.6 % of it less, and contexts twice as large
_STEP: Final = 16  # items; in whole steps every version of the byte delta agrees
_HEADER: Final = struct.Struct("<4B3i16s")
_WORD: Final = struct.Struct("<i")
_FORMAT, _FORMAT_ZSTD, _FLAGS = 5, 1, 0x95  # Blosc2; extended header, not split, Zstandard
_MIN_BLOCK_BYTES, _MAX_BLOCK_BYTES = 16 * KiB, 1024 * KiB
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SIZES: Final = {0x20: ("<B", 0), 0x60: ("<H", 256), 0xA0: ("<I", 0)}  # by frame header descriptor


def squeeze_numbers(plain: Buffer, item_bytes: int, most: int) -> bytes | None:
    """Return `plain` as codec 2, decoded again and compared; None if it takes more than `most`.

    `plain` has at least MIN_PLAIN_BYTES.  None as well where the library did not make what it was
    asked for, or not of these bytes.
    """
    length = len(plain) - len(plain) % (_STEP * item_bytes)
    tail = memoryview(plain)[length:]
    with suppress(ObjectDamaged), lent() as tools:
        into = tools.squeezed(most)
        squeezer = tools.compressor(item_bytes, _block_bytes(length, item_bytes))
        used = squeezer.compress(plain, length, into, max(0, most - len(tail)))
        if used <= 0:
            return None
        squeezed = b"".join((memoryview(into)[:used], tail))
        back = tools.plain(len(plain))
        _open(squeezed, len(plain), back, tools)
        if back.startswith(plain):  # == would go byte by byte over a view
            return squeezed
    return None


def open_numbers(squeezed: Buffer, plain_bytes: int) -> bytearray:
    """Return the plaintext, `plain_bytes` long; raise ObjectDamaged where it is no such chunk."""
    plain = unfilled(plain_bytes)
    with lent() as tools:
        _open(squeezed, plain_bytes, plain, tools)
    return plain


def open_numbers_into(squeezed: Buffer, into: memoryview) -> None:
    """Write the plaintext, as long as `into`; raise ObjectDamaged where it is no such chunk."""
    with lent() as tools:
        _open(squeezed, len(into), into, tools)


def _open(squeezed: Buffer, plain_bytes: int, into: bytearray | memoryview, tools: Tools) -> None:
    used, length = check(squeezed, plain_bytes)
    if tools.decompressor(_block_bytes_of(squeezed)).decompress(squeezed, used, into) != length:
        raise ObjectDamaged("a frame's numbers do not decode")
    into[length:plain_bytes] = memoryview(squeezed)[used:]


def check(squeezed: Buffer, plain_bytes: int) -> tuple[int, int]:
    """Return how much of `squeezed` is the chunk, and of how much plaintext; the rest is as it is.

    Raises ObjectDamaged unless each field, each block's place and each stream's frame is of the
    kind that docs/format.md describes, and nothing lies between them.
    """
    if len(squeezed) < _HEADER.size:
        raise ObjectDamaged("a frame's numbers are cut short")
    *kind, item_bytes, length, block_bytes, used, pipeline = _HEADER.unpack_from(squeezed)
    step = _STEP * item_bytes
    if kind != [_FORMAT, _FORMAT_ZSTD, _FLAGS] or item_bytes not in ITEM_BYTES:
        raise ObjectDamaged("a frame's numbers are of a kind that no writer makes")
    is_sized = length == plain_bytes - plain_bytes % step and 0 < block_bytes <= length
    is_block = _MIN_BLOCK_BYTES <= block_bytes <= _MAX_BLOCK_BYTES and not block_bytes % step
    is_whole = len(squeezed) - used == plain_bytes - length
    if not (is_sized and is_block and is_whole and pipeline == _pipeline(item_bytes)):
        raise ObjectDamaged("a frame's numbers and its table entry disagree")
    _check_blocks(memoryview(squeezed)[:used], length, block_bytes)
    return used, length


def _block_bytes_of(squeezed: Buffer) -> int:
    *_, block_bytes, _, _ = _HEADER.unpack_from(squeezed)
    return int(block_bytes)


def _pipeline(item_bytes: int) -> bytes:
    """Return the header's second half: shuffle, byte delta, Zstandard; items; nothing special."""
    return bytes((0, 0, 0, 0, 1, 35, 5, 0, 0, 0, 0, 0, 0, item_bytes, 0, 0))


def _check_blocks(chunk: memoryview, length: int, block_bytes: int) -> None:
    """Refuse blocks that do not follow each other, or that are neither raw, zero nor zstd."""
    blocks = -(-length // block_bytes)
    at = _HEADER.size + blocks * _WORD.size
    if at > len(chunk):
        raise ObjectDamaged("a frame's numbers are cut short")
    for number, (start,) in enumerate(_WORD.iter_unpack(chunk[_HEADER.size : at])):
        plain = min(block_bytes, length - number * block_bytes)
        if start != at or at + _WORD.size > len(chunk):
            raise ObjectDamaged("a frame's blocks do not follow each other")
        (size,) = _WORD.unpack_from(chunk, at)
        at += _WORD.size
        if not 0 <= size <= min(plain, len(chunk) - at):
            raise ObjectDamaged("a frame's block is larger than what it holds")
        if 0 < size < plain:
            _check_zstd(chunk[at : at + size], plain)
        at += size
    if at != len(chunk):
        raise ObjectDamaged("a frame's numbers are followed by something else")


def _check_zstd(frame: memoryview, plain: int) -> None:
    """Refuse what is not one Zstandard frame, without dictionary, that says `plain` bytes."""
    is_zstd = len(frame) > 8 and bytes(frame[:4]) == _ZSTD_MAGIC
    kind = _SIZES.get(frame[4]) if is_zstd else None
    if kind is None or struct.unpack_from(kind[0], frame, 5)[0] + kind[1] != plain:
        raise ObjectDamaged("a frame's block is no Zstandard frame of its size")
    at, left, is_last = 5 + struct.calcsize(kind[0]), 16 + plain // KiB, False
    while not is_last and left and at + 3 <= len(frame):
        head = int.from_bytes(frame[at : at + 3], "little")
        is_last, is_run = bool(head & 1), head >> 1 & 3 == 1
        at += 3 + (1 if is_run else head >> 3)
        left -= 1
    if not is_last or at != len(frame):
        raise ObjectDamaged("a frame's block is not exactly one Zstandard frame")


def _block_bytes(length: int, item_bytes: int) -> int:
    """Return how large blocks of so much plaintext are: never more than there is."""
    step, block = _STEP * item_bytes, _BLOCK_BYTES
    while block - block % step > length:
        block //= 2
    return block - block % step
