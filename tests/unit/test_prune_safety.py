"""What prune does not fall for: clocks, failures, lost packs, lost and forged objects."""

import os
from pathlib import Path
from random import Random

import pytest

from agent.errors import ChainBroken, StoreUnavailable
from agent.maintained import opened
from agent.maintenance.elapsed import elapsed_ns, note_clocks
from agent.maintenance.prune.fates import DAY_NS
from agent.model.ids import PackId
from agent.repository import layout
from agent.repository.condemned import (
    REMEMBERED,
    last_genuine,
    newest_record,
    record_numbers,
)
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexmaking import encode
from agent.repository.packtable import read_contents
from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.e2e.test_drill import Installed
from tests.fakes.backups import BackupFixture
from tests.fakes.clock import FakeClock
from tests.fakes.contents import everything, objects, store_of
from tests.fakes.faulty_store import FaultyStore
from tests.fakes.pruning import REWRITE, prune, prune_to_the_end
from tests.fakes.removing import remove
from tests.fakes.vaults import Vault, make_vault, make_writer, snapshots, stored_ids

KB = 1024
MINUTE_S = 60.0


@pytest.fixture
def thinned(tmp_path: Path) -> BackupFixture:
    """Return a backup whose first snapshot was removed: what only that needed is waste."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    for seed in (1, 2):
        Path(os.fsdecode(fixture.source), "file").write_bytes(Random(seed).randbytes(200 * KB))
        fixture.run()
    secrets = fixture.vault.secrets
    remove(fixture.store, secrets, snapshots(fixture.store, secrets)[:1])
    return fixture


def test_a_run_that_fails_over_and_over_lets_no_time_pass(thinned: BackupFixture) -> None:
    """Tried again every minute, it counts minutes, however long before them the last run was."""
    secrets, clock, noted = thinned.vault.secrets, FakeClock(), thinned.scratch / "clocks"

    def try_to_prune(store: Store) -> None:
        prune(
            store, secrets, thinned.scratch, days=elapsed_ns(noted, clock) / DAY_NS,
            spend_time=lambda: note_clocks(noted, clock),
        )  # fmt: skip

    for _ in range(4):
        try_to_prune(thinned.store)
        clock.advance(DAY_NS / 1e9)
    record = newest_record(thinned.store, secrets.vault, secrets.reader().index())
    assert record.condemned
    for _ in range(10):
        sick = FaultyStore(thinned.store, fail_at=1, counted={"delete"}, stays_down=True)
        with pytest.raises(StoreUnavailable):
            try_to_prune(sick)
        clock.advance(MINUTE_S)
    after = newest_record(thinned.store, secrets.vault, secrets.reader().index())
    assert {one.pack for one in after.condemned} >= {one.pack for one in record.condemned}
    assert max(one.age_ns for one in after.condemned) < 2.1 * DAY_NS


def _indexed_packs(fixture: BackupFixture) -> set[PackId]:
    keys = fixture.vault.secrets.reader()
    cache = IndexCache(fixture.scratch / "look", fixture.store, keys.vault, keys.index())
    return {row.id for file in cache.refresh().files for row in file.packs()}


def test_an_index_that_lists_a_deleted_pack_again_is_put_right(thinned: BackupFixture) -> None:
    """A run of before the sweep wrote it; nobody relies on that pack, nor on its index for long."""
    store, keys = thinned.store, thinned.vault.secrets.reader()
    before = _indexed_packs(thinned)
    tables = {
        pack: read_contents(store, keys.index(), keys.vault, pack, store.size(layout.pack(pack)))
        for pack in before
    }
    prune_to_the_end(store, thinned.vault.secrets, thinned.scratch)
    gone = before - _indexed_packs(thinned)
    assert gone
    late = [contents for pack in gone if (contents := tables[pack]) is not None]
    id_, box = seal_index(encode(late), keys.index())
    store.put(layout.index(keys.vault, id_), [box])
    assert gone <= newest_record(store, keys.vault, keys.index()).doomed()
    assert verify(store, keys={keys.vault: keys}, on_progress=lambda *_: None).is_clean
    prune(store, thinned.vault.secrets, thinned.scratch)
    assert not gone & _indexed_packs(thinned)
    assert gone <= newest_record(store, keys.vault, keys.index()).doomed()


def test_a_pack_that_is_lost_and_not_needed_is_relied_on_no_more_at_once(
    thinned: BackupFixture,
) -> None:
    """Were it only noted, a run would take what it held for stored; if it reappears, it waits."""
    store, secrets = thinned.store, thinned.vault.secrets
    prune(store, secrets, thinned.scratch)
    index = secrets.reader().index()
    lost = newest_record(store, secrets.vault, index).unreferenced[0].pack
    data = store.get(layout.pack(lost))
    store.delete(layout.pack(lost))
    prune(store, secrets, thinned.scratch)
    assert lost in newest_record(store, secrets.vault, index).doomed()
    store.put(layout.pack(lost), [data])
    assert prune(store, secrets, thinned.scratch).swept == 0
    prune_to_the_end(store, secrets, thinned.scratch)
    assert lost not in _indexed_packs(thinned)


@pytest.mark.parametrize("number", [7, 2**64 - 1])
def test_a_forged_record_neither_stops_pruning_nor_is_followed(
    thinned: BackupFixture, number: int
) -> None:
    """It goes; what follows it has a number beyond, and has every unfinished journal rebuilt."""
    store, secrets = thinned.store, thinned.vault.secrets
    prune(store, secrets, thinned.scratch)
    keys = secrets.reader()
    genuine = newest_record(store, keys.vault, keys.index())
    data = store.get(layout.pack_record(keys.vault, genuine.number))
    store.put(layout.pack_record(keys.vault, number), [data])
    followed = last_genuine(store, keys.vault, keys.index(), keys.authority_key())
    assert followed.unreferenced == genuine.unreferenced
    prune(store, secrets, thinned.scratch)
    (left,) = record_numbers(store, keys.vault)
    after = newest_record(store, keys.vault, keys.index(), keys.authority_key())
    assert left == after.number > min(number, 2**62) + REMEMBERED - 1
    assert after.condemning > min(number, 2**62)
    kept = everything(store, secrets, thinned.scratch)
    prune_to_the_end(store, secrets, thinned.scratch)
    assert everything(store, secrets, thinned.scratch) == kept


def test_what_two_thin_packs_hold_is_written_once(tmp_path: Path) -> None:
    """Two hosts had stored the same file at once, each beside what it needs and what is waste."""
    store = MemoryStore()
    first = BackupFixture(store, tmp_path / "one")
    secrets = first.vault.secrets
    keys = make_writer(store, secrets, "second")
    twin = store_of(objects(store))
    second = BackupFixture(twin, tmp_path / "two", vault=Vault(secrets, keys))
    for number, host in enumerate((first, second)):
        for name, seed in (("same", 1), ("own", 2 + number), ("waste", 4 + number)):
            Path(os.fsdecode(host.source), name).write_bytes(Random(seed).randbytes(300 * KB))
        host.run()
        os.unlink(host.source + b"/waste")
        host.run()
    for name, data in objects(twin).items():
        if name not in objects(store):
            store.put(name, [data])
    remove(store, secrets, [i for i in snapshots(store, secrets) if i.snapshot.sequence == 1])
    kept = everything(store, secrets, tmp_path)
    prune_to_the_end(store, secrets, tmp_path, limits=REWRITE)
    ids = stored_ids(store, secrets)
    assert len(ids) == len(set(ids))
    assert everything(store, secrets, tmp_path) == kept


def test_each_vault_is_pruned_by_itself(thinned: BackupFixture) -> None:
    """Another vault's packs are none of its business, indexed or not: they count for nothing."""
    store, secrets = thinned.store, thinned.vault.secrets
    other = BackupFixture(
        store, thinned.scratch / "other", vault=make_vault(store, "cardiology", "heart", 3)
    )
    Path(os.fsdecode(other.source), "file").write_bytes(Random(9).randbytes(200 * KB))
    other.run()
    theirs = set(objects(store)) - set(_of_vault(thinned))
    for name in list(store.list(layout.indexes(other.vault.secrets.vault))):
        store.delete(name.name)  # their packs are orphans now: still theirs
    prune_to_the_end(store, secrets, thinned.scratch, limits=REWRITE)
    left = set(objects(store))
    assert {name for name in theirs if name.startswith(layout.PACKS)} <= left
    assert not thinned.differences()


def _of_vault(fixture: BackupFixture) -> list[str]:
    """Return the names of the packs that a vault's index lists."""
    return [layout.pack(pack) for pack in _indexed_packs(fixture)]


def test_snapshots_that_vanish_without_a_record_stop_maintenance(tmp_path: Path) -> None:
    """All that they need would be taken for waste; the storage may yet bring them back."""
    source = tmp_path / "source"
    source.mkdir()
    installed = Installed(tmp_path, source)
    installed.vitrine("snapshot", "--full")
    installed.vitrine("snapshot", "--full")
    with opened(installed.places.file("maintenance.toml")) as work:
        keys = work.vault("radiology")
        seen = work.snapshots(keys)
        for info in seen:
            name = layout.snapshot(keys.vault, info.snapshot.host, info.snapshot.sequence)
            work.store.delete(name)
        with pytest.raises(ChainBroken, match="rolled back"):
            work.snapshots(keys)
