"""Where a chunk lies: pack, frame, and the stretch of the frame's plaintext."""

import enum
from typing import NamedTuple

from agent.model.ids import PackId


class PackKind(enum.IntEnum):
    """What a pack holds.  Bound into every frame's seal: content can never pass for a tree."""

    DATA = 1
    TREE = 2


class Codec(enum.IntEnum):
    """How a frame's plaintext was squeezed (docs/format.md 4).  Numbers are for ever."""

    RAW = 0
    ZSTD = 1
    BLOSC2 = 2  # shuffled, byte delta, Zstandard: pixels and other numbers


class FrameLocation(NamedTuple):
    """One sealed frame of one pack."""

    pack: PackId
    number: int  # of the frame in its pack; also its nonce
    offset: int  # of the sealed bytes in the pack object
    stored: int  # sealed length, tag included
    plain: int  # length after decoding
    codec: int  # a Codec, or a number this program does not know


class ChunkLocation(NamedTuple):
    """A chunk: a stretch of a frame's decoded plaintext."""

    frame: FrameLocation
    offset: int
    length: int
