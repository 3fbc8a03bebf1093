"""Frames: fetched once, together where they lie together, bounded, and never taken for another."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.errors import AccessDenied, ObjectDamaged, StoreUnavailable, VitrineError
from agent.model.ids import PackId, VaultId
from agent.model.location import ChunkLocation, FrameLocation, PackKind
from agent.repository import frames, layout
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.repository.writer import VaultWriter
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.stores import FailingStore, LyingStore, RecordingStore
from tests.fakes.vaults import make_vault

KiB = 1024
FRAME_BYTES = 128 * KiB


class _Filled:
    """A vault with one data pack of incompressible frames."""

    def __init__(self, scratch: Path, count: int = 12, kind: PackKind = PackKind.DATA) -> None:
        self.store: Store = MemoryStore()
        self.secrets: VaultSecrets
        self.keys: WriterKeys
        self.secrets, self.keys = make_vault(self.store)
        cache = IndexCache(scratch, self.store, self.keys.vault, self.keys.index())
        writer = VaultWriter(self.store, self.keys, cache)
        builder = writer.builder(kind)
        self.data = [os.urandom(FRAME_BYTES) for _ in range(count)]
        ids = [writer.ids.chunk_id(data) for data in self.data]
        for id_, data in zip(ids, self.data, strict=True):
            builder.add(id_, data)
        writer.put(builder)
        writer.flush()
        index = cache.refresh()
        self.at = [self._frame(index.find(id_)) for id_ in ids]

    def reader(self, store: Store | None = None, cache_bytes: int = 1 << 30) -> FrameReader:
        keys = OpeningKeys.of(self.secrets)
        return FrameReader(store or self.store, self.keys.vault, keys, cache_bytes=cache_bytes)

    @staticmethod
    def _frame(found: ChunkLocation | None) -> FrameLocation:
        assert found is not None
        return found.frame


def _ranges(store: RecordingStore) -> int:
    return sum(operation == "get_range" for operation, _ in store.calls)


def test_neighbours_are_fetched_with_one_request(tmp_path: Path) -> None:
    """Latency is paid once for a stretch, and not again for what is here."""
    filled = _Filled(tmp_path)
    store = RecordingStore(filled.store)
    reader = filled.reader(store)
    reader.prefetch(filled.at, PackKind.DATA)
    assert _ranges(store) == 2  # the frames, and once the pack's header
    reader.prefetch(filled.at, PackKind.DATA)
    for at, data in zip(filled.at, filled.data, strict=True):
        assert reader.frame(at, PackKind.DATA).plain == data
    assert _ranges(store) == 2


def test_small_gaps_are_read_over_and_large_ones_are_not(tmp_path: Path) -> None:
    """Reading over a gap is cheaper than a second request, up to a point."""
    filled = _Filled(tmp_path)
    store = RecordingStore(filled.store)
    filled.reader(store).prefetch([filled.at[0], filled.at[2]], PackKind.DATA)
    assert _ranges(store) == 2
    store.calls.clear()
    filled.reader(store).prefetch([filled.at[0], filled.at[9]], PackKind.DATA)
    assert _ranges(store) == 3


def test_one_request_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is wanted, what is in flight stays small."""
    monkeypatch.setattr(frames, "FETCH_MAX_BYTES", 3 * FRAME_BYTES + 1000)
    filled = _Filled(tmp_path)
    store = RecordingStore(filled.store)
    filled.reader(store).prefetch(filled.at, PackKind.DATA)
    assert _ranges(store) == 1 + 12 // 3


def test_what_is_kept_is_bounded_in_bytes(tmp_path: Path) -> None:
    """The oldest goes first; what was just used stays."""
    filled = _Filled(tmp_path)
    reader = filled.reader(cache_bytes=3 * FRAME_BYTES)
    for at in filled.at[:3]:
        reader.frame(at, PackKind.DATA)
    assert reader.cached(filled.at[0], PackKind.DATA) is not None
    reader.frame(filled.at[3], PackKind.DATA)
    assert reader.cached(filled.at[1], PackKind.DATA) is None
    assert reader.cached(filled.at[0], PackKind.DATA) is not None
    for at in filled.at:
        reader.frame(at, PackKind.DATA)
    held = [at for at in filled.at if reader.cached(at, PackKind.DATA)]
    assert len(held) == 3
    assert reader._held_bytes == 3 * FRAME_BYTES


def test_two_threads_fetch_a_frame_once(tmp_path: Path) -> None:
    """The second waits for the first, and both have the same frame."""
    filled = _Filled(tmp_path)
    arrived, go = threading.Event(), threading.Event()

    class Slow(RecordingStore):
        def before(self, operation: str, name: str) -> None:
            super().before(operation, name)
            arrived.set()
            go.wait()

    store = Slow(filled.store)
    reader = filled.reader(store)
    got: list[frames.Frame] = []
    threads = [
        threading.Thread(target=lambda: got.append(reader.frame(filled.at[0], PackKind.DATA)))
        for _ in range(4)
    ]
    threads[0].start()
    arrived.wait()
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(frame is got[0] for frame in got)
    assert _ranges(store) == 2


def test_an_error_reaches_everyone_who_waits_and_is_not_kept(tmp_path: Path) -> None:
    """A store that hiccups once must not damage a session for good."""
    filled = _Filled(tmp_path)
    store = FailingStore(filled.store, 0, once=True)
    reader = filled.reader(store)
    with pytest.raises(StoreUnavailable):
        reader.frame(filled.at[0], PackKind.DATA)
    assert reader.frame(filled.at[0], PackKind.DATA).plain == filled.data[0]


def test_a_failed_prefetch_is_silent_and_the_reader_tries_again(tmp_path: Path) -> None:
    """Reading ahead is a guess: only who reads is told."""
    filled = _Filled(tmp_path)
    store = FailingStore(filled.store, 0, once=True)
    reader = filled.reader(store)
    reader.prefetch(filled.at, PackKind.DATA)
    assert reader.frame(filled.at[5], PackKind.DATA).plain == filled.data[5]


def test_one_damaged_frame_does_not_spoil_its_neighbours(tmp_path: Path) -> None:
    """The error names pack and frame, and says what to do."""
    filled = _Filled(tmp_path)
    bad = filled.at[1]

    def damage(name: str, data: bytes) -> bytes:
        if not name.startswith(layout.PACKS):
            return data
        return data[: bad.offset] + bytes([data[bad.offset] ^ 1]) + data[bad.offset + 1 :]

    reader = filled.reader(LyingStore(filled.store, damage))
    reader.prefetch(filled.at, PackKind.DATA)
    assert reader.frame(filled.at[0], PackKind.DATA).plain == filled.data[0]
    assert reader.frame(filled.at[2], PackKind.DATA).plain == filled.data[2]
    with pytest.raises(ObjectDamaged, match=f"{layout.pack(bad.pack)}, frame 1") as caught:
        reader.frame(bad, PackKind.DATA)
    assert "verify" in caught.value.hint


@pytest.mark.parametrize(
    "lie",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:1250],
        lambda data: bytes(len(data)),
        lambda data: data[:36] + bytes(1168) + data[1204:],
        lambda data: data[::-1],
    ],
    ids=["empty", "no key", "no frames", "zeros", "no sealed key", "reversed"],
)
def test_whatever_a_hostile_store_serves_is_a_named_error(
    tmp_path: Path, lie: Callable[[bytes], bytes]
) -> None:
    """Also when ranges come back shorter than was asked for."""
    filled = _Filled(tmp_path, 2)
    reader = filled.reader(LyingStore(filled.store, lambda _, data: lie(data)))
    reader.prefetch(filled.at, PackKind.DATA)
    with pytest.raises(ObjectDamaged):
        reader.frame(filled.at[0], PackKind.DATA)


def test_a_hostile_location_is_a_named_error_and_costs_nothing(tmp_path: Path) -> None:
    """Whoever holds the index key can write any location."""
    filled = _Filled(tmp_path, 2)
    at = filled.at[0]
    store = RecordingStore(filled.store)
    reader = filled.reader(store)
    for hostile in (
        at._replace(stored=2**32 - 1),
        at._replace(offset=2**32 - 1),
        at._replace(plain=2**32 - 1),
        at._replace(plain=0),
        at._replace(stored=0),
        at._replace(stored=5),
        at._replace(number=2**32 - 1),
        at._replace(codec=255),
        at._replace(codec=1),
        at._replace(pack=PackId(bytes(32))),
        filled.at[1]._replace(number=0),
    ):
        reader.prefetch([hostile, at], PackKind.DATA)
        with pytest.raises(VitrineError):
            reader.frame(hostile, PackKind.DATA)
    assert reader.frame(at, PackKind.DATA).plain == filled.data[0]


def test_a_huge_frame_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    """Memory follows what frames can be, not what an index claims."""
    filled = _Filled(tmp_path, 2)
    store = RecordingStore(filled.store)
    with pytest.raises(ObjectDamaged):
        filled.reader(store).frame(filled.at[0]._replace(stored=2**31), PackKind.DATA)
    assert _ranges(store) == 0


def test_data_is_never_served_as_a_tree_even_from_the_cache(tmp_path: Path) -> None:
    """The pack's kind decides, whether the frame is here already or not."""
    filled = _Filled(tmp_path, 2)
    reader = filled.reader()
    for _ in range(2):
        with pytest.raises(ObjectDamaged, match="something else"):
            reader.frame(filled.at[0], PackKind.TREE)
        assert reader.cached(filled.at[0], PackKind.TREE) is None
        reader.frame(filled.at[0], PackKind.DATA)


def test_another_vaults_pack_is_refused(tmp_path: Path) -> None:
    """By the reader, and by who holds the opening keys, whatever key it is sealed with."""
    filled = _Filled(tmp_path, 2)
    keys = OpeningKeys.of(filled.secrets)
    other = VaultId(b"o" * 16)
    reader = FrameReader(filled.store, other, keys, cache_bytes=1 << 20)
    with pytest.raises(ObjectDamaged):
        reader.frame(filled.at[0], PackKind.DATA)
    preamble = filled.store.get_range(layout.pack(filled.at[0].pack), 0, 1204)
    with pytest.raises(AccessDenied):
        OpeningKeys(other, filled.secrets.epochs).pack_key(filled.at[0].pack, preamble)


def test_a_frame_cannot_be_written_to(tmp_path: Path) -> None:
    """What was verified stays what was verified."""
    filled = _Filled(tmp_path, 1)
    assert filled.reader().frame(filled.at[0], PackKind.DATA).plain.readonly


def test_frames_are_decoded_where_they_are_wanted(tmp_path: Path) -> None:
    """As they are stored they come with one request; nothing of them is kept."""
    filled = _Filled(tmp_path)
    store = RecordingStore(filled.store)
    reader = filled.reader(store)
    sealed = reader.sealed(filled.at)
    assert _ranges(store) == 1
    for at, data in zip(filled.at, filled.data, strict=True):
        room = bytearray(FRAME_BYTES + 2)
        reader.open_into(at, PackKind.DATA, sealed[at], memoryview(room)[1:-1])
        assert room[1:-1] == data
        assert reader.cached(at, PackKind.DATA) is None


def test_what_cannot_be_fetched_is_left_out_and_what_was_changed_is_refused(
    tmp_path: Path,
) -> None:
    """Who asks for it by itself is told; a store that is gone is not passed over."""
    filled = _Filled(tmp_path)
    first = filled.at[0]
    elsewhere = first._replace(pack=PackId(bytes(32)))
    reader = filled.reader()
    assert set(reader.sealed([elsewhere, first])) == {first}
    changed = bytearray(reader.sealed([first])[first])
    changed[5] ^= 1
    with pytest.raises(ObjectDamaged, match="frame 0"):
        reader.open_into(
            first, PackKind.DATA, memoryview(changed), memoryview(bytearray(FRAME_BYTES))
        )
    with pytest.raises(StoreUnavailable):
        filled.reader(FailingStore(filled.store, 0)).sealed([first])
