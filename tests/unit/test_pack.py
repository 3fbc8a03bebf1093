"""Packs: what goes in comes out, and any change is noticed and named."""

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.crypto.packkeys import FrameCipher, OpeningKey
from agent.encode.codecs import MAX_PLAIN_BYTES, unsqueeze
from agent.errors import (
    ObjectDamaged,
    RepositoryError,
    RepositoryTooNew,
    StoreFull,
    StoreUnavailable,
)
from agent.model.ids import VaultId
from agent.model.location import FrameLocation, PackKind
from agent.repository import layout, pack
from agent.repository.pack import (
    ALONE_BYTES,
    FULL_CHUNKS,
    GROUP_BYTES,
    PREAMBLE_BYTES,
    STAGE_BYTES,
    ChunkRow,
    Contents,
    FrameRow,
    PackBuilder,
    open_frame,
    open_table,
    parse_header,
    parse_trailer,
)
from agent.repository.packtable import check_bytes, read_contents
from agent.store.base import Part
from agent.store.memory import MemoryStore

OPENING = OpeningKey(bytes(96))
SEAL = OPENING.seal_key()
INDEX = IndexKey(b"i" * 32)
VAULT = VaultId(b"v" * 16)


def _builder(kind: PackKind = PackKind.DATA) -> PackBuilder:
    return PackBuilder(SEAL, INDEX, VAULT, 1, kind, MemoryStore().begin())


def _id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _pack(chunks: list[bytes]) -> tuple[Contents, bytes]:
    store = MemoryStore()
    builder = PackBuilder(SEAL, INDEX, VAULT, 1, PackKind.DATA, store.begin())
    for number, chunk in enumerate(chunks):
        builder.add(_id(number), chunk)
    contents = builder.finish()
    return contents, store.get(layout.pack(contents.pack))


def _read(contents: Contents, data: bytes) -> dict[bytes, bytes]:
    """Read a pack from its bytes alone, as a reader would."""
    header = parse_header(data[:PREAMBLE_BYTES], "it")
    offset, length = parse_trailer(data[-16:], len(data), "it")
    frames, chunks = open_table(data[offset : offset + length], header, INDEX, "it")
    cipher = FrameCipher(OPENING.unseal(header.sealed_key, header.context))
    plains = []
    for number, row in enumerate(frames):
        at = FrameLocation(contents.pack, number, *row)
        sealed = data[at.offset : at.offset + at.stored]
        squeezed = open_frame(cipher, header, at, sealed)
        plains.append(bytes(unsqueeze(at.codec, squeezed, at.plain)))
    return {c.id: plains[c.frame][c.offset : c.offset + c.length] for c in chunks}


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=2000), max_size=30))
def test_a_pack_holds_what_was_added(chunks: list[bytes]) -> None:
    """Round trip, empty chunks and empty packs included."""
    contents, data = _pack(chunks)
    assert _read(contents, data) == {_id(n): chunk for n, chunk in enumerate(chunks)}
    assert contents.pack == object_name(data)
    assert contents.size == len(data)


def test_a_pack_is_written_as_it_grows() -> None:
    """Its bytes are the same wherever a piece of it ends, a frame larger than a piece too."""
    chunks = [os.urandom(size) for size in (300_000, 900_000, STAGE_BYTES - 16, 3 * STAGE_BYTES, 1)]
    contents, data = _pack(chunks)
    assert _read(contents, data) == {_id(n): chunk for n, chunk in enumerate(chunks)}
    assert contents.pack == object_name(data)
    assert contents.size == len(data)


class _FullDraft:
    """A draft without room, which was told to write so often."""

    writes = 0

    def write(self, part: Part) -> None:
        """Raise StoreFull; later what a draft raises that is over."""
        self.writes += 1
        raise StoreFull("no room") if self.writes == 1 else StoreUnavailable("over")

    def keep(self, name: str) -> None:
        """Fail the test."""
        raise AssertionError(name)

    def drop(self) -> None:
        """Do nothing."""


def test_a_pack_that_could_not_be_written_gets_no_name() -> None:
    """Whoever goes on filling it gets an error again, and nothing half comes of it."""
    builder = PackBuilder(SEAL, INDEX, VAULT, 1, PackKind.DATA, _FullDraft())
    builder.add(_id(1), os.urandom(STAGE_BYTES - 20_000))
    with pytest.raises(StoreFull):
        builder.add(_id(2), os.urandom(STAGE_BYTES))
    with pytest.raises(StoreUnavailable):
        builder.add(_id(3), os.urandom(STAGE_BYTES))
    with pytest.raises(StoreUnavailable):
        builder.finish()


def test_small_chunks_share_a_frame_and_large_ones_have_their_own() -> None:
    """Hundreds of records cost one seal; ranged reads of images stay cheap."""
    contents, _ = _pack([bytes([n]) * 1000 for n in range(100)] + [bytes(ALONE_BYTES)])
    assert len(contents.frames) == 2
    assert {c.frame for c in contents.chunks if c.length == 1000} == {1}
    # 127 KiB is grouped, and a group closes as soon as it is full
    grouped, _ = _pack([bytes(ALONE_BYTES - 1)] * 10)
    assert grouped.frames[0].plain >= GROUP_BYTES
    assert len(grouped.frames) == 2


def test_a_pack_of_tiny_chunks_is_full_by_their_number() -> None:
    """The table stays readable at a bounded cost whatever is in it."""
    builder = _builder()
    for number in range(FULL_CHUNKS):
        assert not builder.is_full
        builder.add(_id(number), b"")
    assert builder.is_full


def test_what_no_reader_would_take_is_not_written() -> None:
    """A frame larger than readers accept would be a backup that nobody can read."""
    builder = _builder()
    with pytest.raises(ValueError, match="more than a frame"):
        builder.add(_id(1), bytes(MAX_PLAIN_BYTES + 1))
    assert builder.is_empty


def test_every_flipped_byte_is_a_named_error() -> None:
    """Header, key, frames, table and trailer: nothing may change unnoticed."""
    contents, data = _pack([b"abc" * 30, os.urandom(50)])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x01
        with pytest.raises(RepositoryError):
            _read(contents, bytes(damaged))


def test_every_truncation_is_a_named_error() -> None:
    """A pack that ends early is damaged, wherever."""
    contents, data = _pack([b"abc" * 30])
    for length in range(len(data)):
        with pytest.raises(RepositoryError):
            _read(contents, data[:length])


def test_a_later_version_or_suite_is_too_new() -> None:
    """A reader says so instead of calling it damaged."""
    _, data = _pack([b"x"])
    for position in (8, 9):
        later = bytearray(data)
        later[position] = 2
        with pytest.raises(RepositoryTooNew):
            parse_header(bytes(later), "it")


def test_a_frame_does_not_open_as_another_frame_or_with_another_decoding() -> None:
    """Number, codec and plain length are bound into the seal."""
    contents, data = _pack([os.urandom(ALONE_BYTES), os.urandom(ALONE_BYTES)])
    header = parse_header(data, "it")
    cipher = FrameCipher(OPENING.unseal(header.sealed_key, header.context))
    at = FrameLocation(contents.pack, 0, *contents.frames[0])
    sealed = data[at.offset : at.offset + at.stored]
    assert open_frame(cipher, header, at, sealed)
    for changed in (
        at._replace(number=1),
        at._replace(codec=1 - at.codec),
        at._replace(plain=at.plain + 1),
    ):
        with pytest.raises(ObjectDamaged):
            open_frame(cipher, header, changed, sealed)


def _resealed(
    change: Callable[[bytearray], None],
) -> Callable[[], tuple[list[FrameRow], list[ChunkRow]]]:
    """Return a reader of a table that its sealer made hostile."""
    contents, data = _pack([b"abc", b"def"])
    header = parse_header(data, "it")
    plain = bytearray(pack._encode_table(contents.frames, contents.chunks))
    change(plain)
    box = INDEX.seal(plain, pack._table(header.digest))
    return lambda: open_table(box, header, INDEX, "it")


@pytest.mark.parametrize("position", range(8 + 16 + 2 * 44))
def test_a_hostile_table_is_read_as_it_is_or_refused(position: int) -> None:
    """An owned agent can seal any table: no lie leads outside a frame, none to a crash."""

    def change(plain: bytearray) -> None:
        plain[position] = 0xFF

    try:
        frames, chunks = _resealed(change)()
    except ObjectDamaged:
        return
    assert all(c.offset + c.length <= frames[c.frame].plain for c in chunks)


def test_a_table_that_ends_anywhere_is_refused() -> None:
    """Counts and length must agree."""
    for length in range(8 + 16 + 2 * 44):

        def change(plain: bytearray, length: int = length) -> None:
            del plain[length:]

        with pytest.raises(ObjectDamaged):
            _resealed(change)()


def test_a_lying_trailer_is_refused_before_anything_is_fetched() -> None:
    """Offset and length are checked against the object's size."""
    for offset, length in ((0, 0), (2**32 - 1, 2**32 - 1), (PREAMBLE_BYTES, 2**32 - 1)):
        trailer = pack.TRAILER.pack(offset, length, pack.END_MAGIC)
        with pytest.raises(ObjectDamaged):
            parse_trailer(trailer, 5000, "it")
    size = PREAMBLE_BYTES + pack.MAX_TABLE_BYTES + 1 + 16
    huge = pack.TRAILER.pack(PREAMBLE_BYTES, pack.MAX_TABLE_BYTES + 1, pack.END_MAGIC)
    with pytest.raises(ObjectDamaged):
        parse_trailer(huge, size, "it")


def test_contents_are_read_with_the_index_key_alone() -> None:
    """An index can be rebuilt by who cannot read content; another vault's pack is None."""
    store = MemoryStore()
    contents, data = _pack([b"abc", b"def"])
    store.put(layout.pack(contents.pack), [data])
    assert read_contents(store, INDEX, VAULT, contents.pack, len(data)) == contents
    other = VaultId(b"w" * 16)
    assert read_contents(store, INDEX, other, contents.pack, len(data)) is None
    check_bytes(store, contents.pack, len(data))


@pytest.mark.parametrize("size", [0, 10, PREAMBLE_BYTES, 10**12])
def test_a_lying_size_is_a_named_error(size: int) -> None:
    """A listing is the store's word, which is not believed."""
    store = MemoryStore()
    contents, data = _pack([b"abc"])
    store.put(layout.pack(contents.pack), [data])
    with pytest.raises(ObjectDamaged):
        read_contents(store, INDEX, VAULT, contents.pack, size)


def test_bytes_that_do_not_match_the_name_are_damage() -> None:
    """Anyone can scrub without keys."""
    store = MemoryStore()
    contents, data = _pack([b"abc"])
    store.put(layout.pack(contents.pack), [data[:-1] + b"2"])
    with pytest.raises(ObjectDamaged, match="do not match"):
        check_bytes(store, contents.pack, len(data))
