"""A run from the command line: of a source that rests without a loop, of any other with one."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.backup.once import run_once
from agent.backup.request import Counts, Outcome, Request
from agent.backup.steps import Steps
from agent.clock import SystemClock
from agent.errors import StoreUnavailable
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.faulty_store import FaultyStore


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackupFixture]:
    """Return a vault whose source holds directories with files, and a snapshot of it.

    A scan of it takes many steps.
    """
    monkeypatch.setattr("agent.backup.batch.BREATH_NAMES", 10)
    made = BackupFixture(MemoryStore(), tmp_path)
    for number in range(40):
        directory = Path(os.fsdecode(made.source)) / f"{number % 7}" / f"{number}"
        directory.mkdir(parents=True)
        (directory / "image").write_bytes(b"%d" % number * 100)
    made.run()
    made.backup.close()
    yield made
    made.backup.close()


def once(made: BackupFixture, request: Request = Request()) -> Outcome:  # noqa: B008 - a value
    """Return what a run of a new process comes to."""
    steps = made.steps()
    try:
        return run_once(steps, SystemClock(), request, lambda _: None)
    finally:
        steps.close()


def test_source_that_rests_is_looked_at_and_nothing_is_written(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loop is run, no object put, and the journal is left as it is."""
    monkeypatch.setattr("agent.backup.run.go_on", lambda *_: pytest.fail("a loop was run"))
    journal = made.scratch / "state" / "journal.sqlite"
    before, stored = journal.read_bytes(), {one.name for one in made.store.list("")}
    outcome = once(made)
    assert outcome.taken is None
    assert outcome.last.sequence == 1
    assert outcome.counts == Counts(looked_at=7 + 40 + 40)
    assert outcome.sources[made.source].files == 40
    assert journal.read_bytes() == before
    assert {one.name for one in made.store.list("")} == stored


@pytest.mark.parametrize("path", ["0/0/image", "3/17/image", "6/new", "zzz"])
def test_what_changed_is_gone_on_with_from_where_it_was_found(
    made: BackupFixture, path: str
) -> None:
    """Each name is looked at once, and the snapshot is that of any other run."""
    changed = Path(os.fsdecode(made.source)) / path
    names = 87 + (not changed.exists())
    changed.write_bytes(b"new")
    outcome = once(made)
    assert outcome.taken is not None
    assert outcome.counts == Counts(names, 1, 3)
    assert made.differences() == []


@pytest.mark.parametrize("change", ["delete", "chmod", "rename"])
def test_change_without_content_to_read_is_kept(made: BackupFixture, change: str) -> None:
    """A directory that was made anew is enough."""
    image = Path(os.fsdecode(made.source)) / "2" / "9" / "image"
    if change == "delete":
        image.unlink()
    elif change == "chmod":
        image.parent.chmod(0o700)
    else:
        image.parent.rename(image.parent.with_name("moved"))
    assert once(made).taken is not None
    assert made.differences() == []
    assert once(made).taken is None


def test_snapshot_of_a_source_that_rests_can_be_forced(made: BackupFixture) -> None:
    """It has the same root, and is on record."""
    first = made.last().snapshot
    outcome = once(made, Request(force=True))
    assert outcome.taken is not None
    assert made.last().snapshot.root == first.root
    assert [info.snapshot.sequence for info in made.recorded] == [1, 2]
    assert once(made).taken is None


def test_damaged_journal_is_begun_anew(
    made: BackupFixture, expect_log: Callable[..., None]
) -> None:
    """Everything is read again, and nothing stored twice."""
    path = made.scratch / "state" / "journal.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE pages SET crc = crc + 1")
    db.close()
    expect_log("damaged")
    outcome = once(made)
    assert (outcome.taken, outcome.counts.files, outcome.added_bytes) == (None, 40, 0)
    assert made.differences() == []


def test_run_that_failed_at_any_operation_is_made_good(made: BackupFixture) -> None:
    """Its packs are adopted, also where the next run finds nothing to read any more."""
    store = FaultyStore(made.store)
    made.store = store
    for number in range(1, 100):
        (Path(os.fsdecode(made.source)) / "new").write_bytes(b"%d" % number * 1000)
        store.operations, store.fail_at = 0, number
        try:
            once(made)
        except StoreUnavailable:
            store.heal()
            once(made)
            assert made.differences() == []
        else:
            break
    assert 4 < number < 99  # packs, index and snapshot were among them


def test_stopped_look_lets_go_of_everything(made: BackupFixture) -> None:
    """Ctrl-C while names are compared: no directory stays open, and the next run is whole."""

    def stop(_: Counts) -> None:
        raise KeyboardInterrupt

    steps: Steps = made.steps()
    with pytest.raises(KeyboardInterrupt) as stopped:
        run_once(steps, SystemClock(), Request(), stop)
    steps.close()
    assert stopped.traceback  # it keeps what was left to itself
    assert not open_below(made.source)
    assert once(made).taken is None


def open_below(source: bytes) -> list[bytes]:
    """Return what of a source this process has open."""
    return [path for path in map(_opened, os.listdir(b"/proc/self/fd")) if path.startswith(source)]


def _opened(number: bytes) -> bytes:
    try:
        return os.readlink(b"/proc/self/fd/" + number)
    except FileNotFoundError:  # that of the directory that was listed
        return b""
