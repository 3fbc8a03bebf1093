"""Appending: nothing twice, nothing committed that is not there, whatever fails and when."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec
import pytest

from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.errors import ChainBroken, ObjectDamaged, StoreUnavailable, VitrineError
from agent.model.ids import PackId
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot
from agent.repository import layout, writer
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache
from agent.repository.packtable import read_contents
from agent.repository.writer import MERGE_FAN_IN, VaultWriter
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.flat_tree import commit_tree, snapshot_of, store_tree
from tests.fakes.stores import FailingStore, LyingStore, RecordingStore
from tests.fakes.vaults import content, make_vault, make_writer, open_reader, snapshots

FILES = {b"f%02d" % n: b"content of file %02d" % n for n in range(8)}


def _writer(store: Store, keys: WriterKeys, cache: Path) -> VaultWriter:
    return VaultWriter(store, keys, IndexCache(cache, store, keys.vault, keys.index()))


def _files(
    store: Store, secrets: VaultSecrets, cache: Path, snapshot: Snapshot
) -> dict[bytes, bytes]:
    """Read a whole snapshot back, as a recovery does."""
    reader = open_reader(store, secrets, cache)
    (source,) = reader.entries(snapshot.root)
    return {entry.name: content(reader, entry) for entry in reader.entries(source.tree)}


def _stored_ids(store: Store, keys: WriterKeys) -> Counter[bytes]:
    """Count how often each id lies in any pack, indexed or not."""
    ids: Counter[bytes] = Counter()
    for listed in store.list(layout.PACKS):
        pack = layout.pack_id(listed.name)
        assert pack is not None
        contents = read_contents(store, keys.index(), keys.vault, pack, listed.size)
        assert contents is not None
        ids.update(chunk.id for chunk in contents.chunks)
    return ids


def test_many_threads_claim_each_id_once(tmp_path: Path) -> None:
    """Whoever wins stores it; flushes in between change nothing."""
    store = MemoryStore()
    _, keys = make_vault(store)
    ours = _writer(store, keys, tmp_path)
    data = [b"chunk %d" % n for n in range(300)]

    def store_all() -> None:
        for piece in data:
            id_ = ours.ids.chunk_id(piece)
            if ours.claim(id_):
                builder = ours.builder(PackKind.DATA)
                builder.add(id_, piece)
                ours.put(builder)

    threads = [threading.Thread(target=store_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ours.flush()
    for thread in threads:
        thread.join()
    ours.flush()
    assert set(_stored_ids(store, keys).values()) == {1}
    assert len(_stored_ids(store, keys)) == len(data)


def test_many_are_claimed_as_each_would_be(tmp_path: Path) -> None:
    """What is promised, stored or indexed is nobody's again; what comes twice is claimed once."""
    store = MemoryStore()
    _, keys = make_vault(store)
    ours = _writer(store, keys, tmp_path)
    claimed, stored, indexed, *new = (ours.ids.chunk_id(bytes([n])) for n in range(5))
    for flushes, (id_, data) in ((True, (indexed, b"\2")), (False, (stored, b"\1"))):
        assert ours.claim(id_)
        builder = ours.builder(PackKind.DATA)
        builder.add(id_, data)
        ours.put(builder)
        if flushes:
            ours.flush()
    assert ours.claim(claimed)
    assert ours.claim_all([claimed, *new, stored, indexed, *new]) == set(new)
    assert ours.claim_all(new) == set()
    assert not ours.claim(new[0])


def test_an_id_flushed_between_two_looks_is_not_claimed_again(tmp_path: Path) -> None:
    """The index of the beginning was searched before the flush: the new one decides."""
    store = MemoryStore()
    _, keys = make_vault(store)
    ours = _writer(store, keys, tmp_path)
    id_ = ours.ids.chunk_id(b"x")
    first = ours._first_index

    class Slow(Index):
        """Lets another thread store and flush the id once we have looked."""

        def unknown(
            self, ids: Iterable[bytes], doomed: Collection[PackId], relied: set[PackId]
        ) -> list[bytes]:
            """Look, and have it stored."""
            found = super().unknown(ids, doomed, relied)
            ours._first_index = first
            assert ours.claim(id_)
            builder = ours.builder(PackKind.DATA)
            builder.add(id_, b"x")
            ours.put(builder)
            ours.flush()
            return found

    ours._first_index = Slow(())
    assert not ours.claim(id_)


def test_packs_come_before_their_index_and_the_index_before_the_snapshot(tmp_path: Path) -> None:
    """The order that makes every crash harmless."""
    store = RecordingStore(MemoryStore())
    _, keys = make_vault(store)
    store.calls.clear()
    commit_tree(_writer(store, keys, tmp_path), keys, FILES, pack_chunks=100)
    kinds = [name.split("/")[0] for name in store.puts()]
    assert kinds == ["packs", "packs", "index", "snapshots"]


@pytest.mark.parametrize("once", [True, False], ids=["hiccup", "crash"])
def test_whatever_operation_fails_what_was_committed_reads_back_and_nothing_is_stored_twice(
    tmp_path: Path, once: bool
) -> None:
    """For every n the n-th operation fails; a later run picks up where it stopped."""
    failed_at = 0
    while True:
        inner = MemoryStore()
        secrets, keys = make_vault(inner)
        store = FailingStore(inner, failed_at, once=once)
        caches = tmp_path / f"{once}{failed_at}"
        acknowledged = 0
        try:
            ours = _writer(store, keys, caches / "a")
            ours.adopt_orphans()
            for run in range(2):
                commit_tree(ours, keys, FILES | {b"new": b"run %d" % run})
                acknowledged += 1
            done = True
        except StoreUnavailable:
            done = False
        again = _writer(inner, keys, caches / "a")
        again.adopt_orphans()
        commit_tree(again, keys, FILES | {b"new": b"last"})
        infos = snapshots(inner, secrets)
        assert len(infos) > acknowledged
        for number, info in enumerate(infos):
            read = _files(inner, secrets, caches / "b", info.snapshot)
            assert read.pop(b"new") in {b"run %d" % number, b"last"}
            assert read == FILES
        assert set(_stored_ids(inner, keys).values()) == {1}, failed_at
        if done:
            break
        failed_at += 1
    assert failed_at > 20


def test_after_a_failed_put_the_same_writer_commits_nothing(tmp_path: Path) -> None:
    """Others were told not to store those chunks: a snapshot would name what is not there."""
    inner = MemoryStore()
    secrets, keys = make_vault(inner)
    store = FailingStore(inner, 10**9)
    ours = _writer(store, keys, tmp_path / "a")
    builder = ours.builder(PackKind.DATA)
    id_ = ours.ids.chunk_id(b"data")
    assert ours.claim(id_)
    builder.add(id_, b"data")
    store._fails_at, store._once = len(store.calls), True
    with pytest.raises(StoreUnavailable, match="on purpose"):
        ours.put(builder)
    root = store_tree(ours, {b"f": b"data"})  # believes that somebody stores it
    with pytest.raises(StoreUnavailable, match="not stored"):
        ours.commit(snapshot_of(keys, ours.tip(), root))
    assert snapshots(inner, secrets) == []


def test_a_failed_flush_can_be_tried_again(tmp_path: Path) -> None:
    """Packs stay on the list until an index names them."""
    inner = MemoryStore()
    secrets, keys = make_vault(inner)
    store = FailingStore(inner, 10**9)
    ours = _writer(store, keys, tmp_path / "a")
    root = store_tree(ours, FILES, pack_chunks=100)
    snapshot = snapshot_of(keys, ours.tip(), root)
    store._fails_at, store._once = len(store.calls), True
    with pytest.raises(StoreUnavailable):
        ours.commit(snapshot)
    info = ours.commit(snapshot)
    assert _files(inner, secrets, tmp_path / "b", info.snapshot) == FILES


def test_a_commit_that_came_through_unheard_is_no_conflict(tmp_path: Path) -> None:
    """The same snapshot again is the same snapshot; another by that number is another agent."""
    store = MemoryStore()
    secrets, keys = make_vault(store)
    ours = _writer(store, keys, tmp_path)
    info = commit_tree(ours, keys, FILES)
    assert ours.commit(info.snapshot) == info
    assert len(snapshots(store, secrets)) == 1
    with pytest.raises(ChainBroken, match="exists already"):
        ours.commit(msgspec.structs.replace(info.snapshot, taken_ns=99))


def test_a_second_run_stores_only_what_is_new(tmp_path: Path) -> None:
    """Also with an empty cache: what is known comes from the repository."""
    store = RecordingStore(MemoryStore())
    _, keys = make_vault(store)
    commit_tree(_writer(store, keys, tmp_path / "a"), keys, FILES)
    store.calls.clear()
    commit_tree(_writer(store, keys, tmp_path / "b"), keys, FILES)
    assert [name.split("/")[0] for name in store.puts()] == ["snapshots"]


def _orphan(store: Store, keys: WriterKeys, cache: Path, data: bytes) -> PackId:
    """Leave a pack behind that no index lists; return its id."""
    crashed = _writer(store, keys, cache)
    builder = crashed.builder(PackKind.DATA)
    builder.add(crashed.ids.chunk_id(data), data)
    before = {listed.name for listed in store.list(layout.PACKS)}
    crashed.put(builder)
    (name,) = {listed.name for listed in store.list(layout.PACKS)} - before
    pack = layout.pack_id(name)
    assert pack is not None
    return pack


def test_orphans_are_adopted_once_and_their_chunks_known(tmp_path: Path) -> None:
    """What a crashed run had stored is not stored again."""
    store = MemoryStore()
    _, keys = make_vault(store)
    _orphan(store, keys, tmp_path / "a", b"left behind")
    ours = _writer(store, keys, tmp_path / "b")
    assert ours.adopt_orphans() == 1
    assert not ours.claim(ours.ids.chunk_id(b"left behind"))
    assert ours.adopt_orphans() == 0
    assert _writer(store, keys, tmp_path / "c").adopt_orphans() == 0


def test_another_vaults_packs_are_left_alone(tmp_path: Path) -> None:
    """Departments share a repository, not packs."""
    store = MemoryStore()
    _, keys = make_vault(store)
    _, others = make_vault(store, "records")
    _orphan(store, others, tmp_path / "a", b"theirs")
    assert _writer(store, keys, tmp_path / "b").adopt_orphans() == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: data[:8] + b"\7" + data[9:],
        lambda data: data[:-1] + b"?",
        lambda data: data[:1300] + bytes([data[1300] ^ 1]) + data[1301:],
        lambda data: data[:1210] + bytes([data[1210] ^ 1]) + data[1211:],
    ],
    ids=["half", "stump", "empty", "too new", "trailer", "table", "frame"],
)
def test_a_damaged_orphan_is_passed_over_with_a_warning(
    tmp_path: Path, damage: Callable[[bytes], bytes], expect_log: Callable[..., None]
) -> None:
    """One bad pack must not stop a hospital's backups, and its chunks are stored again."""
    inner = MemoryStore()
    _, keys = make_vault(inner)
    bad = layout.pack(_orphan(inner, keys, tmp_path / "a", b"left behind"))
    _orphan(inner, keys, tmp_path / "b", b"whole")
    store = LyingStore(inner, lambda name, data: damage(data) if name == bad else data)
    expect_log("an unindexed pack is passed over")
    ours = _writer(store, keys, tmp_path / "c")
    assert ours.adopt_orphans() == 1
    assert ours.claim(ours.ids.chunk_id(b"left behind"))
    assert not ours.claim(ours.ids.chunk_id(b"whole"))


def test_a_lost_index_is_made_again_from_the_packs(tmp_path: Path) -> None:
    """Every pack carries its own table: an index is never the only copy."""
    store = MemoryStore()
    secrets, keys = make_vault(store)
    info = commit_tree(_writer(store, keys, tmp_path / "a"), keys, FILES)
    for listed in list(store.list("index/")):
        store.delete(listed.name)
    assert _writer(store, keys, tmp_path / "b").adopt_orphans() == 5
    assert _files(store, secrets, tmp_path / "c", info.snapshot) == FILES


def test_the_number_of_live_index_objects_stays_logarithmic(tmp_path: Path) -> None:
    """Small ones are merged; merged ones name what they replace, at every level."""
    store = MemoryStore()
    _, keys = make_vault(store)
    ours = _writer(store, keys, tmp_path / "a")
    total = MERGE_FAN_IN * MERGE_FAN_IN + 3
    for number in range(total):
        store_tree(ours, {b"f": b"%d" % number})
        ours.flush()
    fresh = IndexCache(tmp_path / "b", store, keys.vault, keys.index()).refresh()
    assert len(fresh.files) < 3 * MERGE_FAN_IN
    assert {file.id for file in fresh.files} == {file.id for file in ours._index.files}
    assert all(ours.ids.chunk_id(b"%d" % number) in fresh for number in range(total))
    assert len(list((tmp_path / "b").iterdir())) == len(fresh.files)


def test_flush_writes_index_objects_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits, one index object takes about FLUSH_CHUNKS."""
    monkeypatch.setattr(writer, "FLUSH_CHUNKS", 2)
    store = MemoryStore()
    _, keys = make_vault(store)
    for number in range(6):
        _orphan(store, keys, tmp_path / "a", b"%d" % number)
    ours = _writer(store, keys, tmp_path / "b")
    assert not ours.wants_flush
    assert ours.adopt_orphans() == 6
    assert [file.chunk_count for file in ours._index.files] == [2, 2, 2]


def test_nothing_is_chained_to_a_tip_that_this_host_did_not_sign(tmp_path: Path) -> None:
    """A forged last snapshot must not become part of a real chain."""
    store = MemoryStore()
    secrets, keys = make_vault(store)
    other = make_writer(store, secrets, "other")
    info = commit_tree(_writer(store, other, tmp_path / "a"), other, FILES)
    moved = store.get(layout.snapshot(keys.vault, other.host(), info.snapshot.sequence))
    store.put(layout.snapshot(keys.vault, keys.host(), 1), [moved])
    store.put(layout.snapshot(keys.vault, keys.host(), 2**64 - 1), [moved])
    with pytest.raises(ObjectDamaged, match="not signed by its writer"):
        _writer(store, keys, tmp_path / "b").tip()


def test_a_full_or_missing_cache_directory_is_a_named_error(tmp_path: Path) -> None:
    """The local cache is ours to name when it cannot be used."""
    store = MemoryStore()
    _, keys = make_vault(store)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VitrineError, match="index cache"):
        _writer(store, keys, tmp_path / "file" / "cache")
