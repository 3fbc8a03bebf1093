"""What was restored is on its way to the disk early, and there at the end."""

import errno
import os
import threading
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import RestoreIncomplete
from agent.restore import writeback
from agent.restore.writeback import Flusher
from agent.store.memory import MemoryStore
from tests.fakes import restores
from tests.fakes.restores import HandMade, restore_to
from tests.fakes.vaults import make_vault, open_reader


def test_a_large_file_keeps_its_bytes_and_times(tmp_path: Path) -> None:
    """Beginning to write it changes nothing that anybody sees."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(writeback.FROM_BYTES))
    before, data = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        writeback.begin(file.fileno(), len(data))
        writeback.finish(file.fileno())
    after = path.stat()
    assert path.read_bytes() == data
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_beginning_is_a_hint() -> None:
    """A descriptor that takes none, a pipe, is no failure; `finish` tells of those."""
    read, write = os.pipe()
    writeback.begin(write, writeback.FROM_BYTES)
    os.close(read)
    os.close(write)


def test_what_is_not_durable_is_not_restored() -> None:
    """The restore ends with an error that says why."""
    with pytest.raises(RestoreIncomplete, match=os.strerror(errno.EBADF)):
        writeback.finish(-1)


def test_what_is_there_is_made_durable_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and again; not once more after the end, which waits for the call under way."""
    calls: list[int] = []
    thrice = threading.Event()

    def finish(target: int) -> None:
        calls.append(target)
        if len(calls) == 3:
            thrice.set()

    monkeypatch.setattr(writeback, "PAUSE_S", 0)
    monkeypatch.setattr(writeback, "finish", finish)
    flusher = Flusher(7, SystemClock())
    flusher.start()
    assert thrice.wait(60)
    flusher.stop()
    count = len(calls)
    flusher.check()
    assert set(calls) == {7}
    assert len(calls) == count


def test_a_flusher_that_was_not_started_stops() -> None:
    """A restore may fail before."""
    Flusher(-1, SystemClock()).stop()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_failure_meanwhile_ends_the_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """The kernel tells of it once, and would not again at the end."""
    monkeypatch.setattr(restores, "PROCESSES", processes)
    store = MemoryStore()
    vault = make_vault(store)
    make = HandMade(store, vault, tmp_path / "made")
    root = make.commit_entries(make.file(b"f", b"content")).snapshot.root
    finish, told, walker = writeback.finish, threading.Event(), os.getpid()

    def fail_once(target: int) -> None:
        if not told.is_set():
            told.set()
            finish(-1)
        finish(target)

    monkeypatch.setattr(writeback, "PAUSE_S", 0)
    monkeypatch.setattr(writeback, "finish", fail_once)
    with pytest.raises(RestoreIncomplete, match="durable"):
        restore_to(
            tmp_path / "out",
            open_reader(store, vault.secrets, tmp_path / "read"),
            root,
            stopped=lambda: os.getpid() == walker and not told.wait(60),
        )
