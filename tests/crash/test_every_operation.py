"""Each store operation of each command fails once, in each way: nothing is lost, twice or unnamed.

For n = 1 … N, where N is however many operations the command needs.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.clock import SystemClock
from agent.errors import ObjectDamaged, RestoreIncomplete, StoreError, VitrineError
from agent.repository import layout
from agent.repository.indexcache import IndexCache
from agent.repository.verify import verify
from agent.restore.recover import Recovery, Wanted
from agent.store.base import Store
from tests.fakes.backups import BackupFixture
from tests.fakes.contents import Contents, fresh_reader, objects, on_disk, store_of
from tests.fakes.faulty_store import Fault, FaultyStore
from tests.fakes.history import History
from tests.fakes.restores import restore_to
from tests.fakes.vaults import PASSPHRASE, make_writer, snapshots, stored_ids

ExpectLog = Callable[..., None]
OURS = b".vitrine-"


class Way(NamedTuple):
    """How a run is broken."""

    fault: Fault
    crash: bool  # the process ends, and another goes on from the disk


WAYS = {
    "failed": Way(Fault.BEFORE, crash=False),
    "answer lost": Way(Fault.AFTER, crash=False),
    "crashed before": Way(Fault.BEFORE, crash=True),
    "crashed after": Way(Fault.AFTER, crash=True),
    "full": Way(Fault.FULL, crash=False),
}
HISTORIES = {"first": 0, "incremental": 1}


@pytest.fixture(params=[*HISTORIES, "merge"])
def history(request: pytest.FixtureRequest, ram: Path, many_checkpoints: None) -> History:
    """Return a vault before its first snapshot, its second, or one whose run merges indexes."""
    if request.param != "merge":
        return History(ram, HISTORIES[request.param])
    for taken in range(1, 12):
        made = History(ram / str(taken), taken)
        held = store_of(made.before)
        before = _merged(made, held)
        if _merged(made, _run(made, held)) - before:
            return made
    raise AssertionError("no run merged its indexes: the test tests nothing")


def _run(history: History, store: Store) -> Store:
    made = history.begin(store)
    made.run()
    made.backup.close()
    return store


def _merged(history: History, store: Store) -> set[str]:
    """Return the live indexes that came of others."""
    keys = history.vault.writer
    cache = IndexCache(history.scratch / "merged", store, keys.vault, keys.index())
    return {file.name for file in cache.refresh().files if file.supersedes}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whatever_operation_of_a_run_fails_nothing_acknowledged_is_lost(
    history: History, way: Way
) -> None:
    """Every snapshot reads back byte for byte; the next run succeeds and stores nothing twice.

    The audit has each snapshot once, also one whose answer was lost.
    """
    for made, state in _broken(history, way):
        _acknowledged_is_there(history, made)
        if way.crash:
            made.backup.close()
            made.backup = made.another(state)
        made.run()
        made.backup.close()
        _all_is_well(history, made.store)
        new = snapshots(made.store, history.vault.secrets)[len(history.known) :]
        assert made.recorded == new


def _broken(history: History, way: Way) -> Iterator[tuple[BackupFixture, str]]:
    """Yield the backup after its n-th operation failed, for every n; the store is healed."""
    failed = 0
    while True:
        store = FaultyStore(
            store_of(history.before), fail_at=failed + 1, fault=way.fault, stays_down=way.crash
        )
        made, state = history.begin_faulty(store)
        with contextlib.suppress(StoreError):  # nothing else may leave
            made.run()
        if store.operations <= failed:
            break
        store.heal()
        yield made, state
        failed += 1
    assert failed > 10, "too few operations to prove anything"


def _acknowledged_is_there(history: History, made: BackupFixture) -> None:
    host = history.vault.writer.host()
    found = history.read(made.store)
    assert history.known.items() <= found.items()
    for info in made.recorded:
        assert found[host, info.snapshot.sequence] == history.now
    assert set(found.keys() - history.known.keys()) <= {(host, len(history.known) + 1)}


def _all_is_well(history: History, store: Store) -> None:
    host = history.vault.writer.host()
    now = {(host, len(history.known) + 1): history.now}
    assert history.read(store) == history.known | now
    ids = stored_ids(store, history.vault.secrets)
    assert len(ids) == len(set(ids))
    keys = {history.vault.secrets.vault: history.vault.secrets.reader()}
    report = verify(store, keys=keys, read_data=True, on_progress=lambda *_: None)
    assert (report.findings, report.unindexed_packs) == ((), 0)


@pytest.mark.slow
def test_another_host_that_writes_during_any_operation_takes_nothing_away(
    history: History,
) -> None:
    """The n-th operation is held up while a second host takes a whole snapshot, for every n."""
    held_up = 0
    while True:
        inner = store_of(history.before)
        theirs = _second_host(history, inner, held_up)
        store = FaultyStore(
            inner, fail_at=held_up + 1, fault=Fault.DELAYED, meanwhile=_runs(theirs)
        )
        made = history.begin(store)
        made.run()
        made.backup.close()
        theirs.backup.close()
        if store.operations <= held_up:
            break
        found = history.read(inner)
        assert history.known.items() <= found.items()
        assert found[history.vault.writer.host(), len(history.known) + 1] == history.now
        assert found[theirs.vault.writer.host(), 1] == on_disk(theirs.source)
        held_up += 1
    assert held_up > 10


def _runs(theirs: BackupFixture) -> Callable[[], None]:
    def meanwhile() -> None:
        theirs.run()

    return meanwhile


def _second_host(history: History, store: Store, number: int) -> BackupFixture:
    writer = make_writer(store, history.vault.secrets, "pacs2")
    made = BackupFixture(
        store, history.scratch / f"second{number}", vault=history.vault._replace(writer=writer)
    )
    shutil.copytree(history.source, os.fsdecode(made.source), dirs_exist_ok=True)
    (Path(os.fsdecode(made.source)) / "theirs").write_bytes(b"their own")
    return made


@pytest.mark.slow
def test_a_store_that_tears_an_object_is_found_out_and_lived_with(
    history: History, expect_log: ExpectLog
) -> None:
    """A torn pack or index is stored anew; after a torn snapshot nothing is chained to it."""
    expect_log("an unindexed pack is passed over")
    expect_log("is left out: index/")
    whole = {"packs": 0, "index": 0, "snapshots": 0}
    for made, _ in _broken(history, Way(Fault.TORN, crash=False)):
        torn = _torn(history, made)
        if torn is None:
            continue
        whole[torn.split("/")[0]] += 1
        if torn.startswith("snapshots/"):
            with pytest.raises(ObjectDamaged):
                made.run()
            made.store.delete(torn)  # what an administrator does whom `verify` told
        made.run()
        made.backup.close()
        if not torn.startswith("snapshots/"):
            made.store.delete(torn)
        _all_is_well(history, made.store)
    assert all(whole.values())


def _torn(history: History, made: BackupFixture) -> str | None:
    """Return the object that verify names, if any is torn."""
    keys = {history.vault.secrets.vault: history.vault.secrets.reader()}
    report = verify(made.store, keys=keys, read_data=True, on_progress=lambda *_: None)
    names = {finding.name for finding in report.findings}
    assert len(names) <= 1
    return names.pop() if names else None


# -- commands that only read ------------------------------------------------------------------


@pytest.fixture
def kept(ram: Path, many_checkpoints: None) -> History:
    """Return a vault with two snapshots."""
    return History(ram, 2)


def _reads(
    kept: History, command: Callable[[Store, Path], None]
) -> Iterator[tuple[VitrineError | None, Path]]:
    """Run a command whose n-th operation fails, for every n; yield the error, and its target."""
    failed = 0
    while True:
        store = FaultyStore(store_of(kept.before), fail_at=failed + 1)
        target = kept.scratch / f"target{failed}"
        error = None
        try:
            command(store, target)
        except VitrineError as raised:
            error = raised
        if store.operations <= failed:
            assert error is None
            break
        assert objects(store.inner) == kept.before
        yield error, target
        failed += 1
    assert failed > 5


def _restored(target: Path) -> Contents:
    """Return the files of a restore that have their names."""
    source = os.fsencode(target / "source")
    found = on_disk(source) if os.path.isdir(source) else {}
    return {
        path: data
        for path, data in found.items()
        if data.startswith(b"file ") and not any(p.startswith(OURS) for p in path.split(b"/"))
    }


def _check_restores(kept: History, command: Callable[[Store, Path], None]) -> None:
    newest = kept.known[max(kept.known, key=lambda place: place[1])]
    for error, target in _reads(kept, command):
        assert _restored(target).items() <= newest.items()
        if error is None:  # it came through by asking again
            assert _restored(target) == {p: d for p, d in newest.items() if d[:5] == b"file "}
        else:
            assert isinstance(error, StoreError | RestoreIncomplete)


def test_whatever_operation_of_a_recovery_fails_it_is_said_and_nothing_wrong_is_written(
    kept: History,
) -> None:
    """What has its name is whole; what is missing is an error."""

    def recover(store: Store, target: Path) -> None:
        recovery = Recovery(store, SystemClock(), lambda *_: None)
        recovery.recover(Wanted("radiology"), PASSPHRASE, str(target)).outcome.check()

    _check_restores(kept, recover)


def test_whatever_operation_of_a_restore_fails_it_is_said_and_nothing_wrong_is_written(
    kept: History,
) -> None:
    """As for a recovery, with the keys at hand."""

    def restore(store: Store, target: Path) -> None:
        reader = fresh_reader(store, kept.vault.secrets, kept.scratch)
        root = snapshots(store, kept.vault.secrets)[-1].snapshot.root
        restore_to(target, reader, root).check()

    _check_restores(kept, restore)


def test_whatever_operation_of_a_verification_fails_it_is_never_called_clean(kept: History) -> None:
    """An object that could not be read was not verified."""
    keys = {kept.vault.secrets.vault: kept.vault.secrets.reader()}
    clean = 0

    def check(store: Store, _: Path) -> None:
        nonlocal clean
        report = verify(store, keys=keys, read_data=True, on_progress=lambda *_: None)
        clean += report.is_clean

    failed = sum(1 for _ in _reads(kept, check))
    assert clean == 1, f"{clean - 1} of {failed} went unsaid"


def test_a_store_holds_what_its_layout_says(kept: History) -> None:
    """The histories above have every kind of object to fail at."""
    rooms = {name.split("/")[0] for name in kept.before}
    assert rooms == {"repository", "vaults", "packs", "index", "snapshots"}
    assert any(layout.slot_vault(name) for name in kept.before)
