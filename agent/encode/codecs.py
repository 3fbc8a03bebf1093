"""How a frame's plaintext is squeezed (docs/format.md 4).

A codec is a number in the frame table, for ever.  What was squeezed is opened again and compared
before it may count as stored: a compressor's bug must cost an error today, not a lost image in
ten years (restic 0.16.0 and 0.16.3).
"""

import threading

import zstandard

from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.location import Codec

ZSTD_LEVEL = 3  # docs/decisions/0004-compression.md
PROBE_BYTES = 16 * 1024
WORTH_IT = 0.97  # squeezed to more than this: not worth opening again on every read
MAX_PLAIN_BYTES = 64 * 1024 * 1024  # no frame of ours is larger; a lying one is refused unread

Buffer = bytes | bytearray | memoryview


class _PerThread(threading.local):
    """zstd contexts are costly to make, and not for concurrent use."""

    def __init__(self) -> None:
        self.squeeze = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        self.probe = zstandard.ZstdCompressor(level=1)
        self.open = zstandard.ZstdDecompressor()


_zstd = _PerThread()


def squeeze(plain: Buffer) -> tuple[Codec, Buffer]:
    """Return the codec that fits and the squeezed bytes, which decode to `plain` (checked)."""
    if not _looks_squeezable(plain):
        return Codec.RAW, plain
    squeezed = _zstd.squeeze.compress(plain)
    if len(squeezed) > WORTH_IT * len(plain):
        return Codec.RAW, plain
    if _zstd.open.decompress(squeezed) != plain:
        return Codec.RAW, plain  # a wrong compressor costs space, never data
    return Codec.ZSTD, squeezed


def unsqueeze(codec: int, squeezed: Buffer, plain_bytes: int) -> Buffer:
    """Return the plaintext, exactly `plain_bytes` long.

    Raises ObjectDamaged where the bytes do not decode to that, RepositoryTooNew for a codec that
    this program does not know.  Costs at most MAX_PLAIN_BYTES whatever the input claims.
    """
    if plain_bytes > MAX_PLAIN_BYTES:
        raise ObjectDamaged(f"a frame claims {plain_bytes} bytes, more than any frame has")
    if codec == Codec.RAW:
        plain = squeezed
    elif codec == Codec.ZSTD:
        plain = _unzstd(squeezed, plain_bytes)
    else:
        raise RepositoryTooNew(
            f"codec {codec} is not known to this program", hint="install a newer Vitrine"
        )
    if len(plain) != plain_bytes:
        raise ObjectDamaged(f"a frame decodes to {len(plain)} bytes instead of {plain_bytes}")
    return plain


def _unzstd(squeezed: Buffer, plain_bytes: int) -> bytes:
    try:
        if zstandard.frame_content_size(squeezed) != plain_bytes:
            raise ObjectDamaged("a frame's zstd header and its table entry disagree")
        return _zstd.open.decompress(squeezed)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"a frame's zstd stream does not decode: {error}") from error


def _looks_squeezable(plain: Buffer) -> bool:
    """Tell from the middle of the data whether zstd is worth its time on all of it."""
    if len(plain) <= 2 * PROBE_BYTES:
        return len(plain) > 64
    view = memoryview(plain)
    middle = len(plain) // 2
    sample = view[middle : middle + PROBE_BYTES]
    return len(_zstd.probe.compress(sample)) <= WORTH_IT * PROBE_BYTES
