"""Indexes: searched where they lie, merged as they grow, and never believed beyond their bytes."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.crypto.box import IndexKey
from agent.errors import ObjectDamaged, RepositoryError, RepositoryTooNew, StoreUnavailable
from agent.model.ids import IndexId, PackId, VaultId
from agent.model.location import ChunkLocation, FrameLocation, PackKind
from agent.repository import indexcache, layout
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache, open_index, seal_index
from agent.repository.indexfile import HEADER, NEAR_RECORDS, PACK_ROW, RECORD, IndexFile
from agent.repository.indexmaking import encode, merge
from agent.repository.pack import ChunkRow, Contents, FrameRow
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.stores import LyingStore, RecordingStore

KEY = IndexKey(b"i" * 32)
VAULT = VaultId(b"v" * 16)
NAME = "00" * 32


def _contents(number: int, ids: list[bytes]) -> Contents:
    """Return a pack with a frame for every three chunks."""
    frames = [FrameRow(1204 + 50 * n, 50, 30, n % 2) for n in range((len(ids) + 2) // 3)]
    chunks = [ChunkRow(id_, n // 3, 10 * (n % 3), 10) for n, id_ in enumerate(ids)]
    kind = PackKind.TREE if number % 2 else PackKind.DATA
    return Contents(PackId(number.to_bytes(32, "big")), kind, 5000 + number, frames, chunks)


def _expected(packs: list[Contents]) -> dict[bytes, set[ChunkLocation]]:
    found: dict[bytes, set[ChunkLocation]] = {}
    for pack in packs:
        for chunk in pack.chunks:
            frame = FrameLocation(pack.pack, chunk.frame, *pack.frames[chunk.frame])
            place = ChunkLocation(frame, chunk.offset, chunk.length)
            found.setdefault(chunk.id, set()).add(place)
    return found


IDS = st.integers(0, 60).map(lambda n: bytes([n]) * 32)
PACKS = st.lists(st.lists(IDS, max_size=12, unique=True), max_size=6).map(
    lambda lists: [_contents(number, ids) for number, ids in enumerate(lists)]
)


@given(PACKS)
def test_an_index_finds_what_a_dictionary_would(packs: list[Contents]) -> None:
    """Everything that is there, at a place where it is; nothing else."""
    file = IndexFile(encode(packs), NAME)
    expected = _expected(packs)
    for number in range(64):
        id_ = bytes([number]) * 32
        found = file.find(id_)
        assert (found in expected[id_]) if id_ in expected else (found is None)
    assert [(row.id, row.kind, row.size) for row in file.packs()] == [p[:3] for p in packs]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40).map(lambda n: n * NEAR_RECORDS // 4),
    st.sampled_from([b"", b"\0", b"\x7f" * 7, b"\xff" * 8]),
    st.randoms(use_true_random=False),
)
def test_lookups_do_not_depend_on_how_ids_are_spread(
    count: int, start: bytes, random: Random
) -> None:
    """Random ids, as all of ours are, or ones that somebody chose to lie close together."""
    ids = [start + random.randbytes(32 - len(start)) for _ in range(count)]
    near = [bytes(32), b"\xff" * 32, *(id_[:31] + bytes([id_[31] ^ 1]) for id_ in ids[:20])]
    index = Index([IndexFile(encode([_contents(1, ids)]), NAME)])
    assert all(id_ in index for id_ in ids)
    assert index.unknown(ids + near, (), set()) == [id_ for id_ in near if id_ not in ids]


def test_an_id_inside_other_bytes_is_not_taken_for_a_record() -> None:
    """The bytes of one record's end and the next one's beginning may look like an id."""
    ids = [bytes([n]) + bytes(31) for n in range(40)]
    plain = encode([_contents(0, ids)])
    file = IndexFile(plain, NAME)
    records = len(plain) - len(ids) * RECORD.size
    for at in range(records, len(plain) - 32):
        inside = plain[at : at + 32]
        assert (inside in file) == (inside in ids)


@settings(max_examples=40)
@given(st.lists(PACKS, min_size=1, max_size=4))
def test_a_merged_index_holds_what_its_parts_held_a_pack_once(parts: list[list[Contents]]) -> None:
    """Packs that several parts list are listed once; names of what is replaced are kept."""
    files = [IndexFile(encode(packs), f"{n:064x}") for n, packs in enumerate(parts)]
    merged = IndexFile(merge(files), NAME)
    first: dict[bytes, Contents] = {}
    for packs in parts:
        for pack in packs:
            first.setdefault(pack.pack, pack)
    expected = _expected(list(first.values()))
    for number in range(64):
        found = merged.find(bytes([number]) * 32)
        assert found in expected.get(bytes([number]) * 32, {None})
    assert merged.chunk_count == sum(len(pack.chunks) for pack in first.values())
    assert merged.frame_count == sum(len(pack.frames) for pack in first.values())
    assert [row.id for row in merged.packs()] == list(first)
    assert set(merged.supersedes) == {file.id for file in files}


def test_merging_merged_ones_remembers_all_that_went_before() -> None:
    """A reader that sees the last one needs none of the others."""
    small = [IndexFile(encode([_contents(n, [bytes([n]) * 32])]), f"{n:064x}") for n in range(3)]
    middle = IndexFile(merge(small[:2]), f"{10:064x}")
    last = IndexFile(merge([middle, small[2]]), f"{11:064x}")
    assert set(last.supersedes) == {middle.id, *(file.id for file in small)}


def test_merging_keeps_the_records_in_order() -> None:
    """A merge of shuffled packs is searchable."""
    ids = [os.urandom(32) for _ in range(300)]
    files = [IndexFile(encode([_contents(n, ids[n::5])]), f"{n:064x}") for n in (4, 2, 0, 1, 3)]
    merged = IndexFile(merge(files), NAME)
    assert all(merged.find(id_) is not None for id_ in ids)


PLAIN = encode(
    [_contents(n, [bytes([n, k]) * 16 for k in range(5)]) for n in range(3)], [IndexId(b"s" * 32)]
)


def test_every_truncation_is_damage() -> None:
    """Counts and length must agree."""
    for length in range(len(PLAIN)):
        with pytest.raises(ObjectDamaged):
            IndexFile(PLAIN[:length], NAME)


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0xFF])
def test_no_byte_of_a_hostile_index_leads_to_another_error(value: int) -> None:
    """Whoever holds the index key can seal any bytes: they are refused, or read as they are."""
    ids = [bytes([n, k]) * 16 for n in range(3) for k in range(5)]
    for position in range(len(PLAIN)):
        hostile = bytearray(PLAIN)
        hostile[position] = value
        try:
            file = IndexFile(bytes(hostile), NAME)
            list(file.packs())
            for id_ in ids:
                file.find(id_)
            merge([file, file])
        except RepositoryError:
            continue


def test_a_pack_of_no_known_kind_or_out_of_order_is_refused() -> None:
    """Found when the index is opened, not in the middle of a run."""
    for row in (0, 1, 2):
        for kind, first in ((9, 0), (1, 7)):
            hostile = bytearray(PLAIN)
            at = HEADER.size + row * PACK_ROW.size
            id_, _, _, size = PACK_ROW.unpack_from(hostile, at)
            PACK_ROW.pack_into(hostile, at, id_, first, kind, size)
            with pytest.raises(ObjectDamaged):
                IndexFile(bytes(hostile), NAME)


def test_records_out_of_order_are_not_merged() -> None:
    """They would hide chunks of honest writers from a search."""
    hostile = bytearray(PLAIN)
    end = len(hostile) - RECORD.size
    hostile[end:], hostile[end - RECORD.size : end] = (
        hostile[end - RECORD.size : end],
        hostile[end:],
    )
    with pytest.raises(ObjectDamaged, match="out of order"):
        merge([IndexFile(bytes(hostile), NAME)])


def test_a_later_version_is_too_new() -> None:
    """The next step is another program."""
    later = bytearray(PLAIN)
    later[8] = 2
    with pytest.raises(RepositoryTooNew):
        IndexFile(bytes(later), NAME)


def test_several_places_of_one_chunk_are_all_found() -> None:
    """A reader can try the next one where the first is damaged."""
    id_ = b"x" * 32
    files = [IndexFile(encode([_contents(n, [id_])]), f"{n:064x}") for n in range(2)]
    assert len({place.frame.pack for place in Index(files).find_all(id_)}) == 2
    assert id_ in Index(files)
    assert list(Index(files).find_all(b"y" * 32)) == []


# -- the local copies -----------------------------------------------------------------------------


def _put(store: Store, plain: bytes) -> IndexId:
    id_, box = seal_index(plain, KEY)
    store.put(layout.index(VAULT, id_), [box])
    return id_


def _cache(store: Store, directory: Path) -> IndexCache:
    return IndexCache(directory, store, VAULT, KEY)


def test_an_index_object_is_fetched_once(tmp_path: Path) -> None:
    """The copy on disk serves later runs."""
    store = RecordingStore(MemoryStore())
    _put(store, PLAIN)
    assert _cache(store, tmp_path).refresh().find(b"\0\1" * 16)
    store.calls.clear()
    assert _cache(store, tmp_path).refresh().find(b"\0\1" * 16)
    assert [operation for operation, _ in store.calls] == ["list"]


def test_the_copies_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """They hold what the index key reveals."""
    store = MemoryStore()
    _put(store, PLAIN)
    _cache(store, tmp_path / "c").refresh()
    (copy,) = (tmp_path / "c").iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("copy", [b"", b"junk", PLAIN[:-1]])
def test_a_damaged_copy_is_fetched_again(tmp_path: Path, copy: bytes) -> None:
    """The cache may be lost or torn at any time."""
    store = MemoryStore()
    id_ = _put(store, PLAIN)
    (tmp_path / f"{id_.hex()}.idx").write_bytes(copy)
    assert _cache(store, tmp_path).refresh().find(b"\0\1" * 16)


@pytest.mark.parametrize(
    "lie",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: seal_index(PLAIN, KEY)[1],
        lambda data: bytes(2000),
    ],
    ids=["cut", "empty", "flipped", "swapped", "long"],
)
def test_a_damaged_object_is_left_out_with_a_warning(
    tmp_path: Path,
    lie: Callable[[bytes], bytes],
    expect_log: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others serve on; a writer makes it again from the packs."""
    monkeypatch.setattr(indexcache, "MAX_INDEX_BYTES", 1900)
    inner = MemoryStore()
    bad = layout.index(VAULT, _put(inner, encode([_contents(9, [b"z" * 32])])))
    _put(inner, PLAIN)
    store = LyingStore(inner, lambda name, data: lie(data) if name == bad else data)
    expect_log("is left out")
    index = _cache(store, tmp_path).refresh()
    assert index.find(b"\0\1" * 16)
    assert index.find(b"z" * 32) is None


def test_superseded_objects_are_neither_fetched_nor_kept_open(tmp_path: Path) -> None:
    """However long no pruner has come, memory and descriptors follow what is live."""
    store = RecordingStore(MemoryStore())
    parts = []
    for number in range(5):
        plain = encode([_contents(number, [bytes([number]) * 32])])
        parts.append(IndexFile(plain, _put(store, plain).hex()))
    early = _cache(store, tmp_path / "early")
    assert len(early.refresh().files) == 5
    merged = _put(store, merge(parts))
    assert [file.id for file in early.refresh().files] == [merged]
    assert [path.stem for path in (tmp_path / "early").iterdir()] == [merged.hex()]
    store.calls.clear()
    late = _cache(store, tmp_path / "late").refresh()
    assert [file.id for file in late.files] == [merged]
    assert {name for operation, name in store.calls if operation == "get_range"} == {
        layout.index(VAULT, merged)
    }


def test_what_was_deleted_is_forgotten_and_strays_mean_nothing(tmp_path: Path) -> None:
    """The repository decides; names that are not ours are passed over."""
    store = MemoryStore()
    id_ = _put(store, PLAIN)
    store.put(f"index/{VAULT.hex()}/readme.txt", [b"x"])
    store.put(f"index/{VAULT.hex()}/{'ab' * 31}", [b"x"])
    (tmp_path / "new-leftover").write_bytes(b"torn")
    cache = _cache(store, tmp_path)
    assert len(cache.refresh().files) == 1
    store.delete(layout.index(VAULT, id_))
    assert cache.refresh().files == ()
    assert list(tmp_path.iterdir()) == []


def test_descriptors_name_the_live_files(tmp_path: Path) -> None:
    """They outlive the cache's own files, for another process."""
    store = MemoryStore()
    _put(store, PLAIN)
    cache = _cache(store, tmp_path)
    cache.refresh()
    (descriptor,) = cache.descriptors()
    try:
        assert IndexFile.map(descriptor, NAME).find(b"\0\1" * 16)
    finally:
        os.close(descriptor)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StoreUnavailable):
        cache.descriptors()


def test_an_index_of_another_key_or_name_does_not_open() -> None:
    """A swapped object is damage."""
    id_, box = seal_index(PLAIN, KEY)
    assert open_index(box, KEY, layout.index(VAULT, id_)) == PLAIN
    with pytest.raises(ObjectDamaged):
        open_index(box, IndexKey(b"j" * 32), layout.index(VAULT, id_))
    with pytest.raises(ObjectDamaged):
        open_index(box, KEY, layout.index(VAULT, IndexId(b"x" * 32)))
