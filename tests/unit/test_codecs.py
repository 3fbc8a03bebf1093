"""Codecs: any bytes come back, and no lie costs more than its bound."""

import contextlib
import itertools
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.encode import blosc, tools
from agent.encode.codecs import MAX_PLAIN_BYTES, squeeze, unsqueeze, unsqueeze_into
from agent.encode.numeric import ITEM_BYTES, MIN_PLAIN_BYTES, check, squeeze_numbers
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.location import Codec
from tests.fakes.blosc_reader import read_numbers

KiB = 1024
TEXT = b"The patient was seen on the ward. " * 4000


@given(st.binary(max_size=5000), st.integers(1, 40))
def test_any_bytes_come_back(data: bytes, times: int) -> None:
    """Squeezing and unsqueezing are inverse."""
    plain = data * times
    codec, squeezed = squeeze(plain)
    assert bytes(unsqueeze(codec, squeezed, len(plain))) == plain


@pytest.mark.parametrize("kind", ["text", "noise", "numbers"])
def test_plaintext_is_written_where_it_is_wanted(kind: str) -> None:
    """In the midst of a larger buffer, and nowhere else in it."""
    numbers = b"".join((n // 7).to_bytes(2, "little") for n in range(150_001)) + b"tail"
    plain = {"text": TEXT, "noise": random.Random(1).randbytes(9 * KiB), "numbers": numbers}[kind]
    codec, squeezed = squeeze(plain)
    assert codec is {"text": Codec.ZSTD, "noise": Codec.RAW, "numbers": Codec.BLOSC2}[kind]
    room = bytearray(b"\xee" * (len(plain) + 30))
    unsqueeze_into(codec, squeezed, memoryview(room)[13:-17])
    assert room == b"\xee" * 13 + plain + b"\xee" * 17
    with pytest.raises(ObjectDamaged):
        unsqueeze_into(codec, squeezed, memoryview(room)[1:])


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
    with pytest.raises(RepositoryTooNew, match="codec 3"):
        unsqueeze(3, b"x", 1)


# -- numbers ---------------------------------------------------------------------------------------


def volume(kind: str, values: int, noise: int = 9) -> bytes:
    """Return a smooth slope with noise, as items of struct's `kind`, `<` or `>` first."""
    chance = random.Random(7)
    step = 2 if kind[1] in "bB" else 40
    slope = (
        abs(number % 512 - 256) * step // 8 + chance.randrange(noise) for number in range(values)
    )
    return struct.pack(f"{kind[0]}{values}{kind[1]}", *slope)


def colours(pixels: int) -> bytes:
    """Return pixels of three different bytes, each much like that of the pixel before."""
    chance = random.Random(8)
    return bytes(
        byte
        for number in range(pixels)
        for byte in (number // 40 % 200 + chance.randrange(4), 99 + chance.randrange(3), 7)
    )


SHAPES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "8 bit": (1, lambda: volume("<B", 90_000, 3)),
    "16 bit": (2, lambda: volume("<H", 90_000)),
    "16 bit, signed, big end first": (2, lambda: volume(">h", 90_000)),
    "RGB": (3, lambda: colours(90_000)),
    "32 bit": (4, lambda: volume("<i", 90_000)),
    "32 bit, floating point": (4, lambda: volume("<f", 90_000)),
}

RECORDS = b"".join(struct.pack("<IHd16s", n, n % 7, n / 3, b"a name") for n in range(9000))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_pixels_and_volumes_are_squeezed_as_numbers_wherever_they_are_cut(
    shape: str, cut: int
) -> None:
    """The probe finds the size of an item; a cut in the middle of one changes nothing."""
    item, make = SHAPES[shape]
    plain = make()[cut:]
    codec, squeezed = squeeze(plain)
    assert codec is Codec.BLOSC2
    assert bytes(squeezed)[3] == item
    assert len(squeezed) < 0.85 * len(zstandard.compress(plain, 3))
    assert bytes(unsqueeze(codec, squeezed, len(plain))) == plain
    assert read_numbers(bytes(squeezed), len(plain)) == plain


@pytest.mark.parametrize(
    ("plain", "codec"),
    [
        (TEXT, Codec.ZSTD),
        (
            b"".join(struct.pack("<IHd16s", n, n % 7, n / 3, b"a name") for n in range(9000)),
            Codec.ZSTD,
        ),
        (bytes(200 * KiB), Codec.ZSTD),
        (random.Random(3).randbytes(200 * KiB), Codec.RAW),
        (zstandard.compress(volume("<H", 400_000, 40_000)), Codec.RAW),
    ],
    ids=["text", "records", "zeros", "noise", "compressed"],
)
def test_what_is_no_picture_is_not_taken_for_one(plain: bytes, codec: Codec) -> None:
    """Numbers only where they are clearly smaller so."""
    assert squeeze(plain)[0] is codec


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.sampled_from(ITEM_BYTES),
    st.integers(MIN_PLAIN_BYTES, 2 * MIN_PLAIN_BYTES + 99),
)
def test_any_numbers_come_back_by_code_and_by_description(
    seed: int, bits: int, item: int, length: int
) -> None:
    """Items of each size, and lengths that are no multiple of one."""
    plain = bytes(byte >> (8 - bits) for byte in random.Random(seed).randbytes(length))
    squeezed = squeeze_numbers(plain, item, 2 * length)
    assert squeezed is not None
    assert unsqueeze(Codec.BLOSC2, squeezed, length) == plain
    assert read_numbers(squeezed, length) == plain


@pytest.mark.parametrize("item", ITEM_BYTES)
@pytest.mark.parametrize("length", [32, 255, 256, 257, 511, 1024, 4100])
def test_a_chunk_of_any_size_comes_back(item: int, length: int) -> None:
    """One block or many, the last one shorter; black stretches cost nothing, noise no more."""
    chance = random.Random(length)
    noise, black = chance.randbytes(300 * KiB), bytes(300 * KiB)
    plain = (volume("<H", 300 * KiB) + noise + black)[-length * KiB - item :]
    plain = (plain * (length * KiB // len(plain) + 1))[: length * KiB + 5]
    squeezed = squeeze_numbers(plain, item, len(plain) + KiB)
    if squeezed is not None:  # nothing but black is of another kind
        assert unsqueeze(Codec.BLOSC2, squeezed, len(plain)) == plain
        assert read_numbers(squeezed, len(plain)) == plain
    assert (squeezed is not None) == any(plain)


def test_what_does_not_fit_is_not_squeezed() -> None:
    """Noise is left alone, and costs no more room than was given."""
    noise = random.Random(4).randbytes(100 * KiB)
    assert squeeze_numbers(noise, 2, int(0.97 * len(noise))) is None


def test_a_library_that_makes_other_bytes_costs_space_and_no_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does not come back is stored raw."""
    plain = volume("<H", 90_000)
    make = blosc.Compressor.compress

    def of_other_bytes(
        self: blosc.Compressor, plain: blosc.Buffer, length: int, into: bytearray, room: int
    ) -> int:
        other = bytearray(plain)
        other[len(other) // 2] ^= 1
        return make(self, other, length, into, room)

    assert squeeze(plain)[0] is Codec.BLOSC2
    monkeypatch.setattr(blosc.Compressor, "compress", of_other_bytes)
    assert squeeze(plain) == (Codec.RAW, plain)


@pytest.mark.parametrize("name", ["BLOSC_TYPESIZE", "BLOSC_SPLITMODE", "BLOSC_CLEVEL"])
def test_the_environment_costs_space_and_no_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libblosc2 heeds variables, and may make another kind of chunk: it is not taken."""
    plain = volume("<H", 90_000)
    monkeypatch.setattr(tools, "_idle", [])
    monkeypatch.setenv(name, "1")
    codec, squeezed = squeeze(plain)
    assert unsqueeze(codec, squeezed, len(plain)) == plain
    assert codec is not Codec.BLOSC2 or read_numbers(bytes(squeezed), len(plain)) == plain


def test_threads_squeeze_and_open_beside_each_other() -> None:
    """Each has contexts of its own."""
    plains = [make() for _, make in SHAPES.values()]
    failed: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + 20):
            plain = plains[number % len(plains)]
            codec, squeezed = squeeze(plain)
            if bytes(unsqueeze(codec, squeezed, len(plain))) != plain:
                failed.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_no_process_has_to_import_the_package_for_its_library() -> None:
    """Nor numpy: each would take more memory than the rest of an agent."""
    code = "import agent.encode.codecs, sys; print(*{'blosc2', 'numpy'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"\n"


def test_a_library_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is called by a struct that may lie otherwise."""
    blosc._check(blosc._library)
    monkeypatch.setattr(blosc, "_DEFAULTS", (0, 9, 0, 8, 1, 0, 4))
    with pytest.raises(ImportError, match="libblosc2 3"):
        blosc._check(blosc._library)


# -- hostile numbers -------------------------------------------------------------------------------

PICTURE = volume("<H", 40_000)  # two blocks: one of 64 KiB, and the rest


def chunk() -> bytearray:
    """Return PICTURE squeezed."""
    squeezed = squeeze_numbers(PICTURE, 2, len(PICTURE))
    assert squeezed is not None
    return bytearray(squeezed)


def changes() -> Iterator[tuple[str, bytes]]:
    """Yield chunks with one thing wrong that libblosc2 must never see, and what it is."""
    whole = chunk()
    header: dict[str, tuple[int, bytes]] = {
        "another version": (0, b"\x06"),
        "another version of its streams": (1, b"\x02"),
        "bytes as they are": (2, b"\x97"),
        "split streams": (2, b"\x85"),
        "another compressor": (2, b"\x15"),
        "no extended header": (2, b"\x94"),
        "items of no bytes": (3, b"\x00"),
        "items of many bytes": (3, b"\xff"),
        "a negative length": (4, b"\xff\xff\xff\xff"),
        "no blocks": (8, b"\0\0\0\0"),
        "a negative block": (8, b"\0\0\0\x80"),
        "tiny blocks": (8, struct.pack("<i", 32)),
        "a block larger than all": (8, struct.pack("<i", 128 * KiB)),
        "a length of another": (12, struct.pack("<i", len(whole) + 1)),
        "another filter": (20, b"\x22"),
        "a filter more": (16, b"\x01"),
        "a codec of a user": (22, b"\x20"),
        "a filter of other items": (29, b"\x03"),
        "variable blocks": (30, b"\x01"),
        "a dictionary": (31, b"\x01"),
        "a lazy chunk": (31, b"\x08"),
        "a value for all": (31, b"\x10"),
        "a block that starts in the header": (32, struct.pack("<i", 0)),
        "a block that starts behind the end": (32, struct.pack("<i", 2**31 - 1)),
        "a block that starts before the chunk": (36, struct.pack("<i", -8)),
        "a run": (40, struct.pack("<i", -7)),
        "a stream beyond the end": (40, struct.pack("<i", len(whole))),
        "no Zstandard frame": (44, b"\x27"),
        "a frame of an old Zstandard": (44, b"\x27\xb5\x2f\xfd"),
        "a frame that can be skipped": (44, b"\x50\x2a\x4d\x18"),
        "a frame with a dictionary": (48, b"\xa1"),
        "a frame with a checksum": (48, b"\xa4"),
        "a frame of another length": (49, b"\x01"),
        "a frame of another block": (53, b"\xff\xff\xff"),
    }
    for what, (at, to) in header.items():
        changed = bytearray(whole)
        changed[at : at + len(to)] = to
        yield what, bytes(changed)
    yield "less than a header", bytes(whole[:31])
    yield "a header alone", bytes(whole[:32])
    yield "less than all", bytes(whole[:-1])
    yield "more than all", bytes(whole) + b"\0"


CHANGES = [*changes()]


@pytest.mark.parametrize(("what", "hostile"), CHANGES, ids=[what for what, _ in CHANGES])
def test_a_chunk_of_another_kind_never_reaches_the_library(
    what: str, hostile: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused by our own checks."""

    def reached(*_: object) -> int:
        raise AssertionError(what)

    monkeypatch.setattr(blosc.Decompressor, "decompress", reached)
    with pytest.raises(ObjectDamaged):
        unsqueeze(Codec.BLOSC2, hostile, len(PICTURE))


def test_a_frame_of_endless_empty_blocks_is_refused_early() -> None:
    """Each costs a step of ours; no writer makes more of them than one for a KiB."""
    whole = chunk()
    (size,) = struct.unpack_from("<i", whole, 40)
    empty = bytes(whole[44:53]) + b"\0\0\0" * ((size - 12) // 3) + b"\x01\0\0"
    stream = empty.ljust(size, b"\0")[:size]
    with pytest.raises(ObjectDamaged, match="exactly one"):
        check(bytes(whole[:44]) + stream + bytes(whole[44 + size :]), len(PICTURE))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_change_of_a_chunk_escapes_as_another_error(data: st.DataObject) -> None:
    """Hostile bytes are damage, or numbers of the right length: never a crash."""
    hostile = chunk()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(hostile) - 1))
        hostile[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ObjectDamaged):
        assert len(unsqueeze(Codec.BLOSC2, hostile, len(PICTURE))) == len(PICTURE)


@given(st.binary(max_size=300), st.integers(0, 1000))
def test_no_bytes_for_a_chunk_escape_as_another_error(stream: bytes, claimed: int) -> None:
    """As for zstd."""
    with contextlib.suppress(ObjectDamaged):
        assert len(unsqueeze(Codec.BLOSC2, stream, claimed)) == claimed


def test_after_a_damaged_chunk_the_next_one_opens() -> None:
    """A failure leaves nothing behind."""
    whole = bytes(chunk())
    damaged = refused = 0
    for at in itertools.chain(range(56, 200), range(len(whole) - 200, len(whole))):
        hostile = bytearray(whole)
        hostile[at] ^= 0x5A
        damaged += 1
        try:
            unsqueeze(Codec.BLOSC2, hostile, len(PICTURE))
        except ObjectDamaged:
            refused += 1
            assert unsqueeze(Codec.BLOSC2, whole, len(PICTURE)) == PICTURE
    assert 0 < refused <= damaged
