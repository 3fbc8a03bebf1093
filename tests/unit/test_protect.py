"""A vault under protection: real events, short settle times, one run at a time."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from agent.backup import protect
from agent.backup.protect import Standing, State, Timing, VaultProtection
from agent.backup.watch import SourceWatch
from agent.clock import SystemClock
from agent.errors import VitrineError
from agent.model.snapshot import Trigger
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.unit.test_backup_run import FullStore

PATIENCE_SECONDS = 120.0
LONG_GRACE_SECONDS = 3.0  # a busy machine may be late with an event, by more than is usual
QUICK = Timing(settle=0.05, max_wait=1.0, scan_interval=3600.0)


class Protected:
    """A running protection, and what it said of failures."""

    def __init__(self, made: BackupFixture, timing: Timing) -> None:
        """Wire it as the agent does."""
        self.made = made
        self.failures: list[VitrineError] = []
        self.vault = VaultProtection(
            "radiology", made.backup, made.sources, timing, SystemClock(), self.failures.append
        )

    def standing(self) -> Standing:
        """Return how the first source stands."""
        return self.vault.standings()[0]

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until `done`."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not done():  # noqa: ASYNC110 - a status is nobody's event
                await trio.sleep(0.01)

    async def until_snapshot(self, sequence: int) -> None:
        """Wait until that many snapshots were taken, and the last is as the source is."""
        await self.until(lambda: len(self.made.recorded) >= sequence)

    async def until_equal(self) -> None:
        """Wait until the newest snapshot shows the source as it is."""
        with trio.fail_after(PATIENCE_SECONDS):
            while self.made.differences():  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)


@asynccontextmanager
async def protected(made: BackupFixture, timing: Timing = QUICK) -> AsyncIterator[Protected]:
    """Protect until the block ends; the first scan has been done by then."""
    it = Protected(made, timing)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.vault.run)
        await it.until(lambda: it.standing().state is not State.SCANNING)
        yield it
        nursery.cancel_scope.cancel()


@pytest.fixture
def made(tmp_path: Path) -> BackupFixture:
    """Return a backup of a source with one file."""
    made = BackupFixture(MemoryStore(), tmp_path)
    Path(os.fsdecode(made.source), "first").write_bytes(b"first")
    return made


def at(made: BackupFixture, name: str) -> Path:
    """Return a path below the source."""
    return Path(os.fsdecode(made.source)) / name


async def test_a_change_is_in_a_snapshot_once_it_has_settled(made: BackupFixture) -> None:
    """New, changed, moved and deleted files follow their events, without a full scan."""
    async with protected(made) as it:
        await it.until_snapshot(1)
        at(made, "study").mkdir()
        at(made, "study/image").write_bytes(os.urandom(5000))
        await it.until_equal()
        at(made, "study").rename(at(made, "merged"))
        at(made, "first").unlink()
        await it.until_equal()
        assert made.recorded[0].snapshot.trigger is Trigger.SCHEDULE
        assert made.recorded[-1].snapshot.trigger is Trigger.CHANGE
        assert it.standing().problem == ""


async def test_an_asked_for_snapshot_holds_what_was_written_just_before(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes and asks need not wait for the settle time."""
    monkeypatch.setattr(protect, "EVENT_GRACE_SECONDS", LONG_GRACE_SECONDS)
    async with protected(made, Timing(1000.0, 1000.0, 3600.0)) as it:
        await it.until_snapshot(1)
        at(made, "urgent").write_bytes(b"now")
        outcome = await it.vault.snapshot(full=False)
        assert outcome.taken is not None
        assert outcome.counts.files == 1
        assert made.differences() == []
        monkeypatch.setattr(protect, "EVENT_GRACE_SECONDS", 0.0)
        assert (await it.vault.snapshot(full=True)).taken is None


async def test_a_daemon_reads_everything_again_when_asked(
    made: BackupFixture, expect_log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on as before."""
    expect_log("is begun anew")
    monkeypatch.setattr(protect, "EVENT_GRACE_SECONDS", 0.0)
    async with protected(made, Timing(1000.0, 1000.0, 3600.0)) as it:
        await it.until_snapshot(1)
        assert (await it.vault.snapshot(full=True)).counts.files == 0
        outcome = await it.vault.snapshot(full=False, reread=True)
        assert (outcome.taken, outcome.counts.files, outcome.added_bytes) == (None, 1, 0)
        at(made, "second").write_bytes(b"second")
        await it.until(lambda: it.standing().dirty_since_ns > 0)
        assert (await it.vault.snapshot(full=False)).counts.files == 1


async def test_a_deleted_source_is_missing_and_protected_again_once_it_is_back(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted and made anew, without an event that would say so."""
    monkeypatch.setattr(protect, "CHECK_SECONDS", 0.05)
    async with protected(made) as it:
        await it.until_snapshot(1)
        shutil.rmtree(made.source)
        await it.until(lambda: it.standing().state is State.MISSING)
        assert it.standing().problem
        at(made, "sub").mkdir(parents=True)
        at(made, "sub/again").write_bytes(b"again")
        await it.until(lambda: it.standing().state is State.WATCHING)
        await it.until_equal()
        at(made, "sub/more").write_bytes(b"more")
        await it.until_equal()


async def test_a_failed_run_is_said_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    """A full repository: the status says so; with space again the next try succeeds."""
    expect_log("no snapshot of vault radiology", level=40)
    monkeypatch.setattr(protect, "RETRY_SECONDS", 0.05)
    store = FullStore()
    made = BackupFixture(store, tmp_path)
    at(made, "a").write_bytes(b"a")
    store.left = 0
    async with protected(made) as it:
        await it.until(lambda: it.standing().state is State.FAILING)
        assert "no space" in it.standing().problem
        await it.until(lambda: bool(it.failures))
        store.left = -1
        await it.until_snapshot(1)
        await it.until(lambda: it.standing().state is State.WATCHING)
        assert made.differences() == []


async def test_constant_change_does_not_keep_snapshots_away(made: BackupFixture) -> None:
    """The longest wait ends a wait that quiet would never end."""
    async with protected(made, Timing(settle=0.5, max_wait=0.6, scan_interval=3600.0)) as it:
        await it.until_snapshot(1)
        with trio.fail_after(PATIENCE_SECONDS):
            number = 0
            while len(made.recorded) < 3:
                at(made, f"f{number}").write_bytes(b"x")
                number += 1
                await trio.sleep(0.02)


async def test_a_scheduled_scan_repairs_what_events_missed(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are hints: without any, the schedule finds the change."""
    async with protected(made, Timing(0.05, 1.0, scan_interval=0.3)) as it:
        await it.until_snapshot(1)
        monkeypatch.setattr(SourceWatch, "changed", lambda *_, **__: None)
        at(made, "unnoticed").write_bytes(b"x")
        await it.until_snapshot(2)
        await it.until_equal()
        assert made.recorded[-1].snapshot.trigger is Trigger.SCHEDULE
