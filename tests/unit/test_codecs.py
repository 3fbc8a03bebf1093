"""Codecs: any bytes come back, and no lie costs more than its bound."""

import contextlib
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.encode.codecs import MAX_PLAIN_BYTES, squeeze, unsqueeze
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.location import Codec

KiB = 1024
TEXT = b"The patient was seen on the ward. " * 4000


@given(st.binary(max_size=5000), st.integers(1, 40))
def test_any_bytes_come_back(data: bytes, times: int) -> None:
    """Squeezing and unsqueezing are inverse."""
    plain = data * times
    codec, squeezed = squeeze(plain)
    assert bytes(unsqueeze(codec, squeezed, len(plain))) == plain


def test_text_is_squeezed_and_noise_is_left_alone() -> None:
    """What zstd does not help is not worth opening again on every read."""
    codec, squeezed = squeeze(TEXT)
    assert codec is Codec.ZSTD
    assert len(squeezed) < len(TEXT) / 50
    noise = random.Random(1).randbytes(200 * KiB)
    assert squeeze(noise) == (Codec.RAW, noise)


def test_any_kind_of_buffer_is_taken() -> None:
    """Views and byte arrays squeeze as bytes do."""
    for plain in (bytearray(TEXT), memoryview(TEXT)):
        codec, squeezed = squeeze(plain)
        assert bytes(unsqueeze(codec, squeezed, len(TEXT))) == TEXT


@given(st.binary(max_size=300), st.integers(0, 1000))
def test_no_stream_of_zstd_escapes_as_another_error(stream: bytes, claimed: int) -> None:
    """Hostile bytes are damage, or by chance data of the right length."""
    with contextlib.suppress(ObjectDamaged):
        assert len(unsqueeze(Codec.ZSTD, stream, claimed)) == claimed


def test_every_flip_and_truncation_of_a_stream_is_damage_or_the_right_length() -> None:
    """Seals notice a change; the codec must not crash on what a hostile sealer made."""
    _, squeezed = squeeze(TEXT[:2000])
    stream = bytes(squeezed)
    for position in range(len(stream)):
        flipped = bytearray(stream)
        flipped[position] ^= 0x5A
        for hostile in (bytes(flipped), stream[:position]):
            with contextlib.suppress(ObjectDamaged):
                assert len(unsqueeze(Codec.ZSTD, hostile, 2000)) == 2000


@pytest.mark.parametrize("claimed", [0, 1, len(TEXT) - 1, len(TEXT) + 1])
def test_a_lying_plain_length_is_damage(claimed: int) -> None:
    """The table and the stream must agree, for both codecs."""
    _, squeezed = squeeze(TEXT)
    with pytest.raises(ObjectDamaged):
        unsqueeze(Codec.ZSTD, squeezed, claimed)
    with pytest.raises(ObjectDamaged):
        unsqueeze(Codec.RAW, TEXT, claimed)


def test_a_bomb_is_refused_unread() -> None:
    """More than any frame has is refused by its claim; a stream without a size is too."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(MAX_PLAIN_BYTES + 1))
    with pytest.raises(ObjectDamaged, match="more than any frame"):
        unsqueeze(Codec.ZSTD, bomb, MAX_PLAIN_BYTES + 1)
    with pytest.raises(ObjectDamaged):
        unsqueeze(Codec.ZSTD, bomb, 1000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    with pytest.raises(ObjectDamaged):
        unsqueeze(Codec.ZSTD, unsized, len(TEXT))


def test_a_codec_of_a_later_program_is_too_new() -> None:
    """The next step is another program, not a copy of the pack."""
    with pytest.raises(RepositoryTooNew, match="codec 2"):
        unsqueeze(2, b"x", 1)
