"""A source that changes while it is read: a torn file is never presented as whole.

Its files know whether they are whole.  They are changed between two system calls of whoever reads
them, and by a thread that never rests while runs go on.
"""

import threading
from collections import Counter
from pathlib import Path

import pytest

from agent.backup import read
from agent.backup.read import pause
from agent.model.tree import Entry, Flaw, Kind
from agent.repository.reader import VaultReader
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.chance import chance, rounds
from tests.fakes.moving_source import OUTSIDE, MovingSource, RestlessOs, is_whole
from tests.fakes.vaults import content, walk

RUNS_IN_CI = 12
DISTURBED_RUNS_IN_CI = 8


def _check(reader: VaultReader, path: bytes, entry: Entry) -> None:
    name = path.rsplit(b"/", 1)[-1]
    assert name != b"secret", "a link was followed out of the source"
    if entry.kind is Kind.FILE and entry.flaw is not Flaw.UNREADABLE:
        data = content(reader, entry)
        assert len(data) == entry.size
        assert OUTSIDE not in data
        assert entry.flaw is Flaw.CHANGED_WHILE_READ or is_whole(name, data), path


@pytest.mark.slow
def test_a_file_that_changes_between_two_reads_is_whole_or_marked(
    ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever system call of the reader it is changed before."""
    made = BackupFixture(MemoryStore(), ram)
    random = chance("disturbed")
    moving = MovingSource(Path(made.source.decode()), ram / "outside", random)
    seen: Counter[Flaw] = Counter()
    for _ in range(rounds(DISTURBED_RUNS_IN_CI)):
        for _ in range(60):
            moving.step()
        with monkeypatch.context() as patched:
            restless = RestlessOs(moving, random, likely=0.08)
            patched.setattr(read, "os", restless)
            made.run()
        reader = made.reader()
        for path, entry in walk(reader, made.tops()[b"source"].tree):
            _check(reader, path, entry)
            seen[entry.flaw] += entry.kind is Kind.FILE
    made.run()
    made.backup.close()
    assert made.differences() == []
    assert seen[Flaw.CHANGED_WHILE_READ]
    assert seen[Flaw.NONE]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["ram", "tmp_path"], ids=["tmpfs", "disk"])
def test_no_file_is_torn_that_is_not_marked(request: pytest.FixtureRequest, where: str) -> None:
    """Appended to, cut, written over, replaced, moved, swapped for a link: whole or marked."""
    scratch: Path = request.getfixturevalue(where)
    made = BackupFixture(MemoryStore(), scratch)
    moving = MovingSource(Path(made.source.decode()), scratch / "outside", chance("moving"))
    stop, failures = threading.Event(), list[BaseException]()

    def change() -> None:
        try:
            while not stop.is_set():
                moving.step()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(rounds(RUNS_IN_CI)):
            _until_it_moves(moving, changer)
            made.run()
            reader = made.reader()
            for path, entry in walk(reader, made.tops()[b"source"].tree):
                _check(reader, path, entry)
    finally:
        stop.set()
        changer.join()
    assert not failures
    made.run()
    made.backup.close()
    assert made.differences() == []


def _until_it_moves(moving: MovingSource, changer: threading.Thread) -> None:
    """Wait for the next change, however late its thread is given a turn."""
    before = moving.steps
    while moving.steps == before and changer.is_alive():
        pause(0.001)


@pytest.mark.parametrize(
    "name", [b"appended", b"rewritten", b"replaced", b"swapped", b"new"], ids=bytes.decode
)
def test_the_files_tell_when_they_are_torn(tmp_path: Path, name: bytes) -> None:
    """A file made half of one state and half of another is not whole."""
    (tmp_path / "source").mkdir()
    moving = MovingSource(tmp_path / "source", tmp_path / "outside", chance("torn"))
    found: dict[bytes, bytes] = {}
    while len(found) < 2:
        moving.step()
        for path in (tmp_path / "source").glob(f"*/{name.decode()}*"):
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            if len(data) > 10_000:
                found[data[:8]] = data
        if name == b"new":
            path = moving._fresh()
            if path.stat().st_size > 10_000:
                found[path.read_bytes()[:8]] = path.read_bytes()
    one, other = list(found.values())[:2]
    assert is_whole(name, one)
    half = min(len(one), len(other)) // 2
    assert not is_whole(name, one[:half] + other[half:])
