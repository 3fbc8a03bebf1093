"""Prune deletes what no snapshot needs, after its waits, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from agent.crypto.box import IndexKey
from agent.errors import ObjectDamaged, ObjectMissing, StoreUnavailable
from agent.maintenance.prune.fates import DAY_NS
from agent.model.ids import VaultId
from agent.model.location import PackKind
from agent.repository import layout
from agent.repository.condemned import LEASE_S, newest_record
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexmaking import encode
from agent.repository.pack import PREAMBLE_BYTES, ChunkRow
from agent.repository.packtable import read_contents, read_header
from agent.repository.verify import verify
from agent.repository.writer import VaultWriter
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.contents import everything
from tests.fakes.pruning import REWRITE, prune, prune_to_the_end
from tests.fakes.removing import remove
from tests.fakes.vaults import snapshots

KB = 1024


@pytest.fixture
def thinned(tmp_path: Path) -> BackupFixture:
    """Return a backup whose first snapshots were removed: what only they needed is waste."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    for number in range(3):
        write(fixture, f"old{number}", number)
        fixture.run()
        os.unlink(fixture.source + b"/old%d" % number)
    write(fixture, "kept", 10)
    fixture.run()
    remove(
        fixture.store, fixture.vault.secrets, snapshots(fixture.store, fixture.vault.secrets)[:-1]
    )
    return fixture


def write(fixture: BackupFixture, name: str, seed: int, size: int = 200 * KB) -> None:
    """Write a file that no other is like."""
    Path(os.fsdecode(fixture.source), name).write_bytes(Random(seed).randbytes(size))


def packs(store: Store) -> set[str]:
    """Return the names of the packs that are there."""
    return {listed.name for listed in store.list(layout.PACKS)}


def is_clean(fixture: BackupFixture) -> bool:
    """Tell whether verify, with keys and data, finds nothing."""
    keys = {fixture.vault.secrets.vault: fixture.vault.secrets.reader()}
    report = verify(fixture.store, keys=keys, read_data=True, on_progress=lambda *_: None)
    return report.is_clean


def test_what_only_removed_snapshots_needed_goes_after_its_waits(thinned: BackupFixture) -> None:
    """Noted, two days, condemned, three days, gone: index, packs and old records with it."""
    secrets, before = thinned.vault.secrets, packs(thinned.store)
    kept = everything(thinned.store, secrets, thinned.scratch)
    reports = prune_to_the_end(thinned.store, secrets, thinned.scratch)
    states = [(report.noted > 0, report.condemned > 0, report.swept > 0) for report in reports]
    noted, condemned, swept = (True, False, False), (False, True, False), (False, False, True)
    assert states[:7] == [noted, noted, condemned, condemned, condemned, swept, states[6]]
    assert len(packs(thinned.store)) < len(before)
    assert everything(thinned.store, secrets, thinned.scratch) == kept
    assert is_clean(thinned)
    records = list(thinned.store.list(layout.pack_records(secrets.vault)))
    assert len(records) == 1


def test_a_dry_run_changes_nothing_and_says_what_would_come(thinned: BackupFixture) -> None:
    """The same counts, and not an object more or less."""
    names = {listed.name for listed in thinned.store.list("")}
    told = prune(thinned.store, thinned.vault.secrets, thinned.scratch, dry_run=True)
    assert {listed.name for listed in thinned.store.list("")} == names
    assert told.noted == prune(thinned.store, thinned.vault.secrets, thinned.scratch).noted > 0


def test_a_vault_without_waste_gets_no_record(tmp_path: Path) -> None:
    """Nothing to say, nothing written: agents then have nothing to read."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "kept", 1)
    fixture.run()
    report = prune(fixture.store, fixture.vault.secrets, tmp_path)
    assert (report.noted, report.condemned, report.swept) == (0, 0, 0)
    assert (
        newest_record(
            fixture.store, fixture.vault.secrets.vault, fixture.vault.secrets.reader().index()
        ).number
        == 0
    )


def test_a_clock_that_jumps_ahead_takes_nothing(thinned: BackupFixture) -> None:
    """A run adds a day at most, whatever it is told."""
    secrets = thinned.vault.secrets
    reports = [prune(thinned.store, secrets, thinned.scratch, days=3650) for _ in range(4)]
    assert not any(report.swept for report in reports)
    assert reports[-1].condemned


def test_a_clock_that_goes_back_ages_nothing(thinned: BackupFixture) -> None:
    """No time is taken for passed."""
    secrets = thinned.vault.secrets
    reports = [prune(thinned.store, secrets, thinned.scratch, days=-1) for _ in range(20)]
    assert not any(report.condemned or report.swept for report in reports)


def test_what_is_needed_again_is_struck_from_the_list(thinned: BackupFixture) -> None:
    """Noted packs may be relied on: the same file comes back, is not stored again, and stays."""
    secrets = thinned.vault.secrets
    prune(thinned.store, secrets, thinned.scratch)
    before = packs(thinned.store)
    write(thinned, "back", 1)
    thinned.run()
    added = packs(thinned.store) - before
    assert all(_kind(thinned.store, name) is PackKind.TREE for name in added), "not stored again"
    prune_to_the_end(thinned.store, secrets, thinned.scratch)
    assert not thinned.differences()
    assert is_clean(thinned)


def test_what_is_condemned_is_relied_on_no_more(thinned: BackupFixture) -> None:
    """The same file comes back too late: it is stored again, and survives the sweep."""
    secrets = thinned.vault.secrets
    for _ in range(3):
        prune(thinned.store, secrets, thinned.scratch)
    before = packs(thinned.store)
    write(thinned, "back", 1)
    thinned.run()
    assert any(
        _kind(thinned.store, name) is PackKind.DATA for name in packs(thinned.store) - before
    )
    prune_to_the_end(thinned.store, secrets, thinned.scratch)
    assert not thinned.differences()
    assert is_clean(thinned)


def test_a_run_under_way_keeps_its_packs_for_the_waits(tmp_path: Path) -> None:
    """Packs in an index and in no snapshot are noted, not condemned, for as long as runs last."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "first", 1)
    fixture.run()
    keys = fixture.vault.writer
    writer = VaultWriter(
        fixture.store, keys, IndexCache(tmp_path / "w", fixture.store, keys.vault, keys.index())
    )
    builder = writer.builder(PackKind.DATA)
    data = Random(5).randbytes(200 * KB)
    id_ = writer.ids.chunk_id(data)
    assert writer.claim(id_)
    builder.add(id_, data)
    writer.put(builder)
    writer.flush()
    for _ in range(2):
        report = prune(fixture.store, fixture.vault.secrets, tmp_path)
        assert (report.noted, report.condemned) == (1, 0)
    writer.flush()


def test_a_long_run_does_not_commit_what_was_condemned_under_it(thinned: BackupFixture) -> None:
    """After a lease it looks again, and would rather begin anew."""
    keys = thinned.vault.writer
    cache = IndexCache(thinned.scratch / "w", thinned.store, keys.vault, keys.index())
    writer = VaultWriter(thinned.store, keys, cache)
    known = writer.ids.chunk_id(Random(1).randbytes(200 * KB))
    assert not writer.claim(known), "it is there, so the run relies on it"
    for _ in range(4):
        prune(thinned.store, thinned.vault.secrets, thinned.scratch)
    with pytest.raises(StoreUnavailable, match="commits nothing"):
        writer.flush()
    assert LEASE_S * 3 * 10**9 <= 3 * DAY_NS


def test_no_merge_brings_back_what_is_condemned(thinned: BackupFixture) -> None:
    """Index files that list condemned packs are left to the pruner."""
    for _ in range(3):
        prune(thinned.store, thinned.vault.secrets, thinned.scratch)
    secrets = thinned.vault.secrets
    record = newest_record(thinned.store, secrets.vault, secrets.reader().index())
    doomed = record.doomed()
    assert doomed
    for number in range(20, 40):
        write(thinned, f"more{number}", number, 2 * KB)
        thinned.run()
    keys = thinned.vault.writer
    cache = IndexCache(thinned.scratch / "look", thinned.store, keys.vault, keys.index())
    listing = [f for f in cache.refresh().files if any(r.id in doomed for r in f.packs())]
    assert all(len(file.supersedes) == 0 for file in listing)


def test_an_interrupted_runs_journal_is_not_believed_after_a_sweep(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    """What it had stored and never committed went; the next run reads and stores it again."""
    expect_log("may have been deleted since")
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "first", 1)
    fixture.run()
    write(fixture, "second", 2)
    _interrupt(fixture)
    prune_to_the_end(fixture.store, fixture.vault.secrets, tmp_path)
    fixture.restart()
    fixture.run()
    assert not fixture.differences()
    assert is_clean(fixture)


def _interrupt(fixture: BackupFixture) -> None:
    """Run until all is stored and noted in the journal, and die before the snapshot."""

    def die(self: VaultWriter, snapshot: object) -> None:
        raise StoreUnavailable("the power went")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VaultWriter, "commit", die)
        with pytest.raises(StoreUnavailable):
            fixture.run()
    fixture.backup.close()


def test_a_pack_used_a_little_is_rewritten(tmp_path: Path) -> None:
    """What is needed of it moves to a new pack; the old one goes; every file is as it was."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    for number in range(6):
        write(fixture, f"file{number}", number, 200 * KB)
    fixture.run()
    for number in range(5):
        os.unlink(fixture.source + b"/file%d" % number)
    fixture.run()
    secrets = fixture.vault.secrets
    remove(fixture.store, secrets, snapshots(fixture.store, secrets)[:1])
    size = sum(listed.size for listed in fixture.store.list(layout.PACKS))
    reports = prune_to_the_end(fixture.store, secrets, tmp_path, limits=REWRITE)
    assert reports[0].rewritten
    assert sum(listed.size for listed in fixture.store.list(layout.PACKS)) < size / 3
    assert not fixture.differences()
    assert is_clean(fixture)


def test_a_damaged_page_stops_everything(thinned: BackupFixture) -> None:
    """Who does not know what is needed deletes nothing."""
    names = packs(thinned.store)
    for name in names:
        if _kind(thinned.store, name) is PackKind.TREE:
            data = bytearray(thinned.store.get(name))
            data[PREAMBLE_BYTES + 20] ^= 1  # in its first frame
            thinned.store.delete(name)
            thinned.store.put(name, [data])
    with pytest.raises(ObjectDamaged):
        prune(thinned.store, thinned.vault.secrets, thinned.scratch)
    assert packs(thinned.store) == names


def test_a_missing_pack_stops_everything(thinned: BackupFixture) -> None:
    """The object is named, and what to do."""
    for name in packs(thinned.store):
        if _kind(thinned.store, name) is PackKind.DATA:
            thinned.store.delete(name)
    with pytest.raises(ObjectMissing, match="no pack holds") as caught:
        prune(thinned.store, thinned.vault.secrets, thinned.scratch)
    assert "repair" in caught.value.hint


def test_an_agent_cannot_have_history_deleted_by_lying_in_an_index(tmp_path: Path) -> None:
    """An owned agent says that all lies in a pack of its own: the real packs stay."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    write(fixture, "precious", 1)
    fixture.run()
    secrets, keys = fixture.vault.secrets, fixture.vault.writer
    honest = packs(fixture.store)
    writer = VaultWriter(
        fixture.store, keys, IndexCache(tmp_path / "liar", fixture.store, keys.vault, keys.index())
    )
    builder = writer.builder(PackKind.DATA)
    builder.add(b"\xee" * 32, Random(9).randbytes(1000 * KB))
    contents = builder.finish()
    lies = [
        ChunkRow(row.id, 0, 0, row.length)
        for name in honest
        for row in _rows(fixture.store, secrets.vault, secrets.reader().index(), name)
    ]
    files = IndexCache(tmp_path / "real", fixture.store, keys.vault, keys.index()).refresh().files
    lie = encode([contents._replace(chunks=sorted(lies))], supersedes=[file.id for file in files])
    id_, box = seal_index(lie, keys.index())
    fixture.store.put(layout.index(keys.vault, id_), [box])
    for _ in range(12):
        try:
            prune(fixture.store, secrets, tmp_path)
        except (ObjectDamaged, ObjectMissing):
            continue
    assert honest <= packs(fixture.store)


def _rows(store: Store, vault: VaultId, key: IndexKey, name: str) -> list[ChunkRow]:
    pack = layout.pack_id(name)
    assert pack is not None
    contents = read_contents(store, key, vault, pack, store.size(name))
    assert contents is not None
    return contents.chunks


def _kind(store: Store, name: str) -> PackKind:
    pack = layout.pack_id(name)
    assert pack is not None
    return read_header(store, pack)[0].kind
