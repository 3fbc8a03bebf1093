"""With the repository and the passphrase alone, everything comes back, or the missing is named."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import (
    ChainBroken,
    NameAmbiguous,
    NoSuchSnapshot,
    NotARepository,
    NotFound,
    RestoreIncomplete,
    WrongKey,
)
from agent.model.location import PackKind
from agent.model.snapshot import SnapshotInfo
from agent.repository import layout
from agent.repository.pack import PREAMBLE_BYTES
from agent.repository.packtable import read_header
from agent.restore.recover import Recovered, Recovery, Wanted
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.compare import differences
from tests.fakes.restores import HandMade, reported
from tests.fakes.vaults import PASSPHRASE, make_vault, make_writer, snapshots

ExpectLog = Callable[..., None]


@pytest.fixture
def backup(tmp_path: Path) -> BackupFixture:
    """Return a backup of a source with two files, taken twice."""
    found = BackupFixture(MemoryStore(), tmp_path)
    source = Path(os.fsdecode(found.source))
    (source / "study").mkdir()
    (source / "study" / "image").write_bytes(b"pixels" * 100)
    found.run()
    (source / "report").write_text("fine")
    found.run()
    return found


def _recover(
    backup: BackupFixture, passphrase: str = PASSPHRASE, vault: str = "radiology", **more: object
) -> Recovered:
    recovery = Recovery(backup.store, SystemClock(), lambda *_: None)
    wanted = Wanted(vault, **more)  # type: ignore[arg-type]
    return recovery.recover(wanted, passphrase, str(backup.scratch / "out"))


def _all_differences(backup: BackupFixture) -> list[str]:
    return differences(Path(os.fsdecode(backup.source)), backup.scratch / "out" / "source")


def _damage(backup: BackupFixture, name: str, at: int = -40) -> None:
    data = bytearray(backup.store.get(name))
    data[at] ^= 1
    backup.store.delete(name)
    backup.store.put(name, [bytes(data)])


def _packs(backup: BackupFixture, kind: PackKind) -> list[str]:
    ids = [(o.name, layout.pack_id(o.name)) for o in backup.store.list(layout.PACKS)]
    return [n for n, id_ in ids if id_ and read_header(backup.store, id_)[0].kind is kind]


def test_the_newest_snapshot_comes_back(backup: BackupFixture) -> None:
    """No gate, no agent, no state: what is recovered is what was there."""
    recovered = _recover(backup)
    assert _all_differences(backup) == []
    assert recovered.snapshot == backup.last()
    assert (recovered.outcome.files, recovered.outcome.failed, recovered.rebuilt_packs) == (2, 0, 0)
    recovered.outcome.check()


def test_an_older_snapshot_comes_back_by_the_start_of_its_id(backup: BackupFixture) -> None:
    """Upper case too; the file that came later is not there."""
    first = snapshots(backup.store, backup.vault.secrets)[0]
    assert _recover(backup, snapshot=first.id.hex()[:8].upper()).snapshot == first
    assert os.listdir(backup.scratch / "out" / "source") == ["study"]


def test_single_paths_come_back(backup: BackupFixture) -> None:
    """With the directories above, nothing else."""
    assert _recover(backup, paths=(b"source/report",)).outcome.files == 1
    assert os.listdir(backup.scratch / "out" / "source") == ["report"]


def test_a_wrong_passphrase_opens_nothing(backup: BackupFixture) -> None:
    """Refused before the target is made."""
    with pytest.raises(WrongKey):
        _recover(backup, passphrase="seven brave otters")
    assert not (backup.scratch / "out").exists()


def test_a_wrong_vault_name_is_told_from_a_wrong_passphrase(backup: BackupFixture) -> None:
    """Who holds the passphrase may know what it opens."""
    with pytest.raises(NotFound, match="cardiology") as raised:
        _recover(backup, vault="cardiology")
    assert "radiology" in raised.value.hint


def test_what_is_no_repository_is_said_so(tmp_path: Path) -> None:
    """And a vault without a snapshot is said to have none."""
    backup = BackupFixture(MemoryStore(), tmp_path)
    with pytest.raises(NoSuchSnapshot):
        _recover(backup)
    backup.store.delete(layout.REPOSITORY)
    with pytest.raises(NotARepository):
        _recover(backup)


@pytest.mark.parametrize("prefix", ["abc", "xyzw", "0" * 64])
def test_a_snapshot_name_that_fits_none_is_refused(backup: BackupFixture, prefix: str) -> None:
    """Too short, no number, or nobody's."""
    with pytest.raises(NoSuchSnapshot):
        _recover(backup, snapshot=prefix)


def test_a_snapshot_name_that_fits_several_lists_them(tmp_path: Path) -> None:
    """With their times, and enough digits to choose."""
    store = MemoryStore()
    vault = make_vault(store)
    make = HandMade(store, vault, tmp_path / "made")
    known: dict[str, SnapshotInfo] = {}
    while True:  # by the birthday of four digits: a few hundred
        info = make.commit_entries(make.file(b"%d" % len(known)))
        twin = known.setdefault(info.id.hex()[:4], info)
        if twin is not info:
            break
    backup = BackupFixture(store, tmp_path, vault=vault)
    with pytest.raises(NameAmbiguous) as raised:
        _recover(backup, snapshot=info.id.hex()[:4])
    for each in (twin, info):
        assert each.id.hex()[:12] in raised.value.message
    assert len(re.findall("2025-", raised.value.message)) == 2


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_lost_indexes_are_read_again_from_the_packs(
    backup: BackupFixture, how: str, expect_log: ExpectLog
) -> None:
    """All of them; that it was so is said."""
    for listed in list(backup.store.list("index/")):
        if how == "damaged":
            _damage(backup, listed.name)
        else:
            backup.store.delete(listed.name)
    if how == "damaged":
        expect_log("is left out: index/", logger="agent.repository.indexcache")
    assert _recover(backup).rebuilt_packs == len(list(backup.store.list(layout.PACKS)))
    assert _all_differences(backup) == []


def test_one_lost_index_is_enough_to_look_at_the_packs(backup: BackupFixture) -> None:
    """Other vaults' packs are looked at and left alone."""
    other = make_vault(backup.store, "cardiology")
    make = HandMade(backup.store, other, backup.scratch / "made")
    make.commit_entries(make.file(b"f", b"theirs"))
    backup.store.delete(
        next(o.name for o in backup.store.list(layout.indexes(backup.last().snapshot.vault)))
    )
    assert _recover(backup).rebuilt_packs > 0
    assert _all_differences(backup) == []


def test_files_of_a_damaged_pack_are_counted_and_named_in_the_target_alone(
    backup: BackupFixture,
) -> None:
    """The pack is named there too; what lies in other packs comes back."""
    packs = _packs(backup, PackKind.DATA)
    assert len(packs) == 2, "each run stored a pack of its own"
    _damage(backup, packs[0], at=PREAMBLE_BYTES + 5)
    outcome = _recover(backup).outcome
    assert (outcome.files, outcome.failed) == (1, 1)
    with pytest.raises(RestoreIncomplete) as raised:
        outcome.check()
    assert "report" not in raised.value.message
    ((path, reason),) = reported(backup.scratch / "out", outcome).items()
    assert path in {"source/report", "source/study/image"}
    assert packs[0] in reason


def test_a_pack_whose_table_is_damaged_too_is_named(
    backup: BackupFixture, expect_log: ExpectLog
) -> None:
    """Without an index there is nothing else that says what it held."""
    for listed in list(backup.store.list("index/")):
        backup.store.delete(listed.name)
    name = _packs(backup, PackKind.DATA)[0]
    _damage(backup, name)
    expect_log(f"{name} is left out", logger="agent.restore.recover")
    recovered = _recover(backup)
    assert recovered.damaged_packs == (name,)
    assert (recovered.outcome.files, recovered.outcome.failed) == (1, 1)


def test_a_broken_chain_hides_no_snapshot_that_is_named(
    backup: BackupFixture, expect_log: ExpectLog
) -> None:
    """The newest of a chain with a hole might not be the newest there was: it must be named."""
    first, second = snapshots(backup.store, backup.vault.secrets)
    gone = first.snapshot
    backup.store.delete(layout.snapshot(gone.vault, gone.host, gone.sequence))
    with pytest.raises(ChainBroken) as raised:
        _recover(backup)
    assert "--snapshot" in raised.value.hint
    expect_log("the chain is broken", logger="agent.restore.recover")
    assert _recover(backup, snapshot=second.id.hex()[:12]).snapshot == second
    assert _all_differences(backup) == []


def test_a_damaged_snapshot_is_not_offered(backup: BackupFixture, expect_log: ExpectLog) -> None:
    """Its neighbour is, when named."""
    first, second = snapshots(backup.store, backup.vault.secrets)
    bad = second.snapshot
    _damage(backup, layout.snapshot(bad.vault, bad.host, bad.sequence))
    with pytest.raises(ChainBroken):
        _recover(backup)
    expect_log("not signed by its writer|the chain is broken", logger="agent.restore.recover")
    with pytest.raises(NoSuchSnapshot):
        _recover(backup, snapshot=second.id.hex()[:12])
    assert _recover(backup, snapshot=first.id.hex()[:12]).snapshot == first


def test_hosts_that_the_snapshot_does_not_cover_are_told(tmp_path: Path) -> None:
    """A vault of several hosts is several restores."""
    store = MemoryStore()
    vault = make_vault(store)
    for number, name in enumerate((b"one", b"two"), 1):
        writer = vault.writer if number == 1 else make_writer(store, vault.secrets, "pacs2")
        make = HandMade(store, vault._replace(writer=writer), tmp_path / f"made{number}")
        make.commit(make.page_of(make.file(name, name)), taken_ns=number * 10**18)
    recovered = _recover(BackupFixture(store, tmp_path, vault=vault))
    assert os.listdir(tmp_path / "out") == ["two"]
    assert [info.snapshot.taken_ns for info in recovered.others] == [10**18]
