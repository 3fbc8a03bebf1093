"""What a run relies on is there when it commits, however long it takes, whatever it took over."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from agent.crypto.signing import SigningKey
from agent.errors import StoreUnavailable
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.condemned import REMEMBERED, PackRecord, encode_record, newest_record
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexmaking import merge
from agent.repository.reliance import Reliance
from agent.repository.writer import VaultWriter
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.pruning import prune, prune_to_the_end
from tests.fakes.removing import remove
from tests.fakes.stores import RecordingStore
from tests.fakes.vaults import Vault, make_vault, make_writer, snapshots

KB = 1024


class Meanwhile(RecordingStore):
    """Lets something happen once, before an object below a prefix is first looked at."""

    def __init__(self, inner: Store, prefix: str, happens: Callable[[], None]) -> None:
        """Take what happens."""
        super().__init__(inner)
        self.prefix = prefix
        self.happens: Callable[[], None] | None = happens

    def before(self, operation: str, name: str) -> None:
        """Have it happen."""
        super().before(operation, name)
        if operation != "list" and name.startswith(self.prefix) and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


def write(fixture: BackupFixture, name: str, seed: int) -> None:
    """Write a file that no other is like."""
    Path(os.fsdecode(fixture.source), name).write_bytes(Random(seed).randbytes(200 * KB))


def put_record(store: Store, vault: Vault, number: int, condemning: int = 0) -> None:
    """Put a record of packs that lists none."""
    secrets = vault.secrets
    record = PackRecord(secrets.vault, number, 0, condemning=condemning)
    data = encode_record(record, secrets.reader().index(), SigningKey(secrets.authority))
    store.put(layout.pack_record(secrets.vault, number), [data])


def reliance(store: Store, vault: Vault) -> Reliance:
    """Return what a run that begins now relies on: nothing yet."""
    return Reliance(store, vault.secrets.vault, vault.secrets.reader().index())


def test_an_index_object_replaced_between_listing_and_reading_is_found_in_its_successor(
    tmp_path: Path,
) -> None:
    """Who lists, and is slow to read, misses nothing: it lists again."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "file", 1)
    fixture.run()
    keys = fixture.vault.secrets.reader()
    known = IndexCache(tmp_path / "known", fixture.store, keys.vault, keys.index()).refresh()

    def replace() -> None:
        for file in known.files:
            id_, box = seal_index(merge([file]), keys.index())
            fixture.store.put(layout.index(keys.vault, id_), [box])
            fixture.store.delete(layout.index(keys.vault, file.id))

    store = Meanwhile(fixture.store, layout.indexes(keys.vault), replace)
    found = IndexCache(tmp_path / "slow", store, keys.vault, keys.index()).refresh()
    assert sum(f.chunk_count for f in found.files) == sum(f.chunk_count for f in known.files) > 0


def test_a_record_replaced_between_listing_and_reading_is_read_in_its_successor() -> None:
    """Maintenance deletes the older one once the newer is there."""
    inner = MemoryStore()
    vault = make_vault(inner)
    id_ = vault.secrets.vault
    put_record(inner, vault, 1)

    def replace() -> None:
        put_record(inner, vault, 2)
        inner.delete(layout.pack_record(id_, 1))

    store = Meanwhile(inner, layout.pack_records(id_), replace)
    assert newest_record(store, id_, vault.secrets.reader().index()).number == 2


def test_who_took_over_a_journal_commits_nothing_once_anything_was_condemned() -> None:
    """Which packs an interrupted run relied on nobody knows: it may be any."""
    store = MemoryStore()
    vault = make_vault(store)
    put_record(store, vault, 1)
    heir, other = reliance(store, vault), reliance(store, vault)
    heir.inherit()
    put_record(store, vault, 2)
    heir.check()
    put_record(store, vault, 3, condemning=3)
    other.check()
    with pytest.raises(StoreUnavailable, match="commits nothing"):
        heir.check()
    with pytest.raises(StoreUnavailable):
        heir.check()


def test_a_run_longer_than_records_remember_commits_nothing_once_anything_was_condemned() -> None:
    """What was condemned and deleted under it may be listed no more."""
    store = MemoryStore()
    vault = make_vault(store)
    put_record(store, vault, 1)
    long, longer = reliance(store, vault), reliance(store, vault)
    put_record(store, vault, REMEMBERED, condemning=2)
    long.check()
    put_record(store, vault, REMEMBERED + 1, condemning=2)
    with pytest.raises(StoreUnavailable):
        longer.check()


def test_a_clean_journal_that_was_put_back_is_not_believed_after_a_sweep(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    """A machine set back by weeks knows a snapshot that is gone, and files that are as it says."""
    expect_log("may have been deleted since")
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "kept", 1)
    write(fixture, "went and came back", 2)
    fixture.run()
    fixture.backup.close()
    path = Path(os.fsdecode(fixture.source), "went and came back")
    aside = tmp_path / "aside"
    shutil.copytree(tmp_path / "state", tmp_path / "image of the machine")
    path.rename(aside)  # with inode and times, as an image of the machine brings it back
    fixture.backup = fixture.another()
    fixture.run()
    fixture.backup.close()
    secrets = fixture.vault.secrets
    remove(fixture.store, secrets, snapshots(fixture.store, secrets)[:1])
    prune_to_the_end(fixture.store, secrets, tmp_path)

    shutil.rmtree(tmp_path / "state")
    (tmp_path / "image of the machine").rename(tmp_path / "state")
    aside.rename(path)
    fixture.backup = fixture.another()
    fixture.run()
    assert not fixture.differences()


def _die(self: VaultWriter, snapshot: object) -> None:
    raise StoreUnavailable("the power went")


def test_a_hosts_first_run_does_not_mind_that_others_packs_are_condemned(tmp_path: Path) -> None:
    """It took over nothing, so it knows what it relies on."""
    fixture, other = _with_waste(tmp_path)
    write(other, "new", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VaultWriter, "commit", _after(_until_condemned(fixture)))
        other.run()
    assert not other.differences()


def test_an_interrupted_runs_journal_is_believed_where_only_others_packs_were_condemned(
    tmp_path: Path,
) -> None:
    """Nothing is read again, though prune condemns something nearly every day."""
    fixture, other = _with_waste(tmp_path)
    write(other, "new", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VaultWriter, "commit", _die)
        with pytest.raises(StoreUnavailable):
            other.run()
        other.restart()
        _until_condemned(fixture)()
        patch.undo()
        patch.setattr(VaultWriter, "commit", _after(lambda: prune(
            fixture.store, fixture.vault.secrets, tmp_path
        )))  # fmt: skip
        assert other.run().counts.files == 0
    assert not other.differences()


def _with_waste(tmp_path: Path) -> tuple[BackupFixture, BackupFixture]:
    """Return a host of whose packs some are waste, noted since a day, and another that is new."""
    fixture = BackupFixture(MemoryStore(), tmp_path / "one")
    for seed in (1, 2):
        write(fixture, "file", seed)
        fixture.run()
    secrets = fixture.vault.secrets
    remove(fixture.store, secrets, snapshots(fixture.store, secrets)[:1])
    for _ in range(2):
        prune(fixture.store, secrets, tmp_path)
    keys = make_writer(fixture.store, secrets, "two")
    return fixture, BackupFixture(fixture.store, tmp_path / "two", vault=Vault(secrets, keys))


def _until_condemned(fixture: BackupFixture) -> Callable[[], None]:
    """Return what has the waste condemned, and nothing that came since."""

    def day() -> None:
        secrets = fixture.vault.secrets
        prune(fixture.store, secrets, fixture.scratch)
        assert newest_record(fixture.store, secrets.vault, secrets.reader().index()).condemned

    return day


def _after(happens: Callable[[], object]) -> Callable[[VaultWriter, Snapshot], SnapshotInfo]:
    """Return a commit before which something happens."""
    commit = VaultWriter.commit

    def late(self: VaultWriter, snapshot: Snapshot) -> SnapshotInfo:
        happens()
        return commit(self, snapshot)

    return late


def test_an_interrupted_runs_packs_condemned_under_the_next_stop_it(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    """They are in an index and the journal names them, but this run neither stored nor met them."""
    expect_log("may have been deleted since")
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "first", 1)
    fixture.run()
    write(fixture, "second", 2)
    secrets = fixture.vault.secrets

    def days() -> None:
        for _ in range(4):
            prune(fixture.store, secrets, tmp_path)

    with pytest.MonkeyPatch.context() as patch:
        for instead in (_die, _after(days)):
            patch.setattr(VaultWriter, "commit", instead)
            with pytest.raises(StoreUnavailable):
                fixture.run()
            fixture.restart()
    prune_to_the_end(fixture.store, secrets, tmp_path)
    fixture.run()
    assert not fixture.differences()


def test_packs_condemned_between_the_last_index_and_the_snapshot_stop_it(tmp_path: Path) -> None:
    """They had been looked for before the index was put; that was days ago by now."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "first", 1)
    fixture.run()
    secrets, keys = fixture.vault.secrets, fixture.vault.writer

    def days_pass() -> None:
        for _ in range(4):
            prune(fixture.store, secrets, tmp_path)

    store = Meanwhile(fixture.store, layout.indexes(keys.vault), days_pass)
    cache = IndexCache(tmp_path / "w", fixture.store, keys.vault, keys.index())
    writer = VaultWriter(store, keys, cache)
    data = Random(2).randbytes(200 * KB)
    id_ = writer.ids.chunk_id(data)
    assert writer.claim(id_)
    builder = writer.builder(PackKind.DATA)
    builder.add(id_, data)
    writer.put(builder)
    last = snapshots(fixture.store, secrets)[-1]
    coming = msgspec.structs.replace(last.snapshot, sequence=2, previous=last.id)
    with pytest.raises(StoreUnavailable, match="being deleted"):
        writer.commit(coming)
