"""Codec 2 read by docs/format.md 4 alone: struct, and Zstandard.  Slow, and none of our code."""

import struct
from itertools import accumulate

import zstandard


def read_numbers(squeezed: bytes, plain_bytes: int) -> bytes:
    """Return the plaintext of a frame with codec 2."""
    version, stream, flags, item = squeezed[:4]
    length, block, used = struct.unpack_from("<iii", squeezed, 4)
    assert (version, stream, flags) == (5, 1, 0x95)
    assert squeezed[16:32] == bytes((0, 0, 0, 0, 1, 35, 5, 0, 0, 0, 0, 0, 0, item, 0, 0))
    assert length == plain_bytes - plain_bytes % (16 * item)
    plain = bytearray()
    for number in range(-(-length // block)):
        (at,) = struct.unpack_from("<i", squeezed, 32 + 4 * number)
        plain += _block(squeezed, at, min(block, length - len(plain)), item)
    return bytes(plain) + squeezed[used:]


def _block(squeezed: bytes, at: int, size: int, item: int) -> bytes:
    (stored,) = struct.unpack_from("<i", squeezed, at)
    stream = squeezed[at + 4 : at + 4 + stored]
    if stored == 0:
        stream = bytes(size)
    elif stored < size:
        stream = zstandard.decompress(stream)
    assert len(stream) == size
    items, block = size // item, bytearray(size)
    for place in range(item):
        deltas = stream[place * items : (place + 1) * items]
        block[place::item] = bytes(sum_ & 0xFF for sum_ in accumulate(deltas))
    return bytes(block)
