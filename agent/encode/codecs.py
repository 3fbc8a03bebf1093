"""How a frame's plaintext is squeezed (docs/format.md 4).

A codec is a number in the frame table, for ever.  What was squeezed is opened again and compared
before it may count as stored: a compressor's bug must cost an error today, not a lost image in
ten years (restic 0.16.0 and 0.16.3).
"""

import zstandard

from agent.encode.blosc import Buffer
from agent.encode.numeric import open_numbers, open_numbers_into, squeeze_numbers
from agent.encode.probe import WORTH_IT, probe
from agent.encode.tools import lent
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.location import Codec

MAX_PLAIN_BYTES = 64 * 1024 * 1024  # no frame of ours is larger; a lying one is refused unread


def squeeze(plain: Buffer, likely: int = 0) -> tuple[Codec, Buffer]:
    """Return the codec that fits and the squeezed bytes, which decode to `plain` (checked).

    `likely` is how many bytes an item has, if there is somebody who says so (see `probe`).
    The bytes are `plain` itself where nothing fits: a wrong compressor costs space, never data.
    """
    codec, item_bytes = probe(plain, likely)
    most = int(WORTH_IT * len(plain))
    squeezed: bytes | None = None
    if codec is Codec.BLOSC2:
        squeezed = squeeze_numbers(plain, item_bytes, most)
    elif codec is Codec.ZSTD:
        squeezed = _squeeze_zstd(plain, most)
    return (codec, squeezed) if squeezed is not None else (Codec.RAW, plain)


def unsqueeze(codec: int, squeezed: Buffer, plain_bytes: int) -> Buffer:
    """Return the plaintext, exactly `plain_bytes` long.

    Raises ObjectDamaged where the bytes do not decode to that, RepositoryTooNew for a codec that
    this program does not know.  Costs at most MAX_PLAIN_BYTES whatever the input claims.
    """
    if plain_bytes > MAX_PLAIN_BYTES:
        raise ObjectDamaged(f"a frame claims {plain_bytes} bytes, more than any frame has")
    plain: Buffer
    if codec == Codec.RAW:
        plain = squeezed
    elif codec == Codec.ZSTD:
        plain = _unzstd(squeezed, plain_bytes)
    elif codec == Codec.BLOSC2:
        plain = open_numbers(squeezed, plain_bytes)
    else:
        raise RepositoryTooNew(
            f"codec {codec} is not known to this program", hint="install a newer Vitrine"
        )
    if len(plain) != plain_bytes:
        raise ObjectDamaged(f"a frame decodes to {len(plain)} bytes instead of {plain_bytes}")
    return plain


def unsqueeze_into(codec: int, squeezed: Buffer, into: memoryview) -> None:
    """Write the plaintext to `into`, which is exactly as long; raises as `unsqueeze` does.

    What is in `into` after an error is neither plaintext nor what was there.
    """
    if codec == Codec.BLOSC2:
        open_numbers_into(squeezed, into)
    else:
        into[:] = unsqueeze(codec, squeezed, len(into))


def _squeeze_zstd(plain: Buffer, most: int) -> bytes | None:
    with lent() as tools:
        squeezed = tools.zstd.compress(plain)
        if len(squeezed) > most:
            return None
        back = tools.unzstd.decompress(squeezed)
        # == would go byte by byte over a view, which takes longer than squeezing it
        return squeezed if len(back) == len(plain) and back.startswith(plain) else None


def _unzstd(squeezed: Buffer, plain_bytes: int) -> bytes:
    try:
        if zstandard.frame_content_size(squeezed) != plain_bytes:
            raise ObjectDamaged("a frame's zstd header and its table entry disagree")
        with lent() as tools:
            return tools.unzstd.decompress(squeezed)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"a frame's zstd stream does not decode: {error}") from error
