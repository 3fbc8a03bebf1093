"""What waits between scan and readers: so many files, so many groups, and no more."""

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from agent.backup import pipeline, queued
from agent.backup.packs import PackSink
from agent.backup.queued import QUEUED_FILES, Queued
from agent.repository.pack import GROUP_BYTES
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture

KiB = 1024


async def test_the_scan_waits_for_readers_once_so_many_files_are_queued(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Names take memory; what was begun to be read makes room for more."""
    monkeypatch.setattr(queued, "QUEUED_FILES", 10)
    waiting = Queued()
    await waiting.add(6)
    await waiting.add(4)
    with trio.move_on_after(1) as too_long:
        await waiting.add(1)
    assert too_long.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.add, 5)
        await trio.testing.wait_all_tasks_blocked()
        waiting.remove(4)
        await trio.testing.wait_all_tasks_blocked()
        assert waiting.files == 6
        waiting.remove(6)
    assert waiting.files == 5


async def test_a_batch_that_is_larger_than_the_queue_is_read_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing waits for ever."""
    monkeypatch.setattr(queued, "QUEUED_FILES", 1)
    waiting = Queued()
    await waiting.add(512)
    waiting.remove(512)
    await waiting.add(512)


@pytest.mark.parametrize("groups", [0, pipeline.QUEUED_GROUPS])
@pytest.mark.parametrize("files", [1, QUEUED_FILES])
def test_all_is_stored_however_little_may_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, files: int
) -> None:
    """Small files and large ones, in turn: groups never pile up behind images."""
    monkeypatch.setattr(pipeline, "QUEUED_GROUPS", groups)
    monkeypatch.setattr(queued, "QUEUED_FILES", files)
    monkeypatch.setattr("agent.backup.batch.BATCH_FILES", 40)
    most = 0
    gather = PackSink.gather

    def watched(self: PackSink, pieces: list[bytes]) -> list[bytes]:
        nonlocal most
        ids = gather(self, pieces)
        most = max(most, self.full_groups)
        return ids

    monkeypatch.setattr(PackSink, "gather", watched)
    made = BackupFixture(MemoryStore(), tmp_path)
    for directory in range(12):
        below = tmp_path / "source" / f"{directory:02}"
        below.mkdir()
        for number in range(40):
            size = 15 * KiB if directory % 2 else 200 * KiB * (number < 3)
            (below / str(number)).write_bytes(os.urandom(size))
    made.run()
    assert made.differences() == []
    assert most <= groups + 40 * 15 * KiB // GROUP_BYTES + 1
