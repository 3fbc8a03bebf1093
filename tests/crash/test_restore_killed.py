"""A restore that is killed leaves no file under its name that is not whole."""

import os
import signal
from pathlib import Path

import pytest

from agent.store.local import LocalStore
from tests.fakes import restores
from tests.fakes.backups import BackupFixture
from tests.fakes.compare import differences
from tests.fakes.restores import restore_to

FILES = 60
STEPS = (1, 40, 90, 140, 180)  # of those that a whole restore of the tree below asks to go on
OURS = b".vitrine-"


@pytest.fixture
def backup(tmp_path: Path) -> BackupFixture:
    """Return a backup of small files, hard links and one file of several windows."""
    (tmp_path / "repository").mkdir()
    found = BackupFixture(LocalStore(tmp_path / "repository"), tmp_path)
    source = Path(os.fsdecode(found.source))
    for number in range(FILES):
        (source / f"d{number % 5}").mkdir(exist_ok=True)
        (source / f"d{number % 5}" / f"f{number}").write_bytes(os.urandom(3000 + number))
    os.link(source / "d0" / "f0", source / "d4" / "also f0")
    (source / "large").write_bytes(os.urandom(20 << 20))
    found.run()
    return found


def _killed(target: Path, backup: BackupFixture, step: int) -> None:
    """Restore in a process that is killed when it asks for the `step`th time to go on."""
    asked = iter(range(1, 1_000_000))
    walker = 0

    def kill() -> bool:
        if os.getpid() == walker and next(asked) >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    reader, root = backup.reader(), backup.last().snapshot.root
    child = os.fork()
    if child == 0:
        walker = os.getpid()
        try:
            restore_to(target, reader, root, stopped=kill)
        finally:
            os._exit(1)  # never back into pytest
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the restore came to its end: ask for earlier steps"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_what_has_its_name_is_whole(backup: BackupFixture, tmp_path: Path, step: int) -> None:
    """Content, mode and times as they were; the rest under names that say whose they are."""
    source = Path(os.fsdecode(backup.source))
    _killed(tmp_path / "out", backup, step)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_dir() or any(os.fsencode(part).startswith(OURS) for part in path.parts):
            continue
        inside = path.relative_to(tmp_path / "out" / "source")
        there, here = (source / inside).stat(), path.stat()
        assert path.read_bytes() == (source / inside).read_bytes()
        assert (here.st_mode, here.st_mtime_ns) == (there.st_mode, there.st_mtime_ns)


@pytest.mark.parametrize("step", [1, 40, 67])
def test_what_processes_named_is_whole(
    backup: BackupFixture, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that write are killed with the one that walks, in whatever they are at."""
    monkeypatch.setattr(restores, "PROCESSES", 2)
    test_what_has_its_name_is_whole(backup, tmp_path, step)


def test_restoring_again_elsewhere_after_a_kill_gives_everything(
    backup: BackupFixture, tmp_path: Path
) -> None:
    """A killed restore has changed nothing but its target."""
    _killed(tmp_path / "out", backup, 90)
    restore_to(tmp_path / "again", backup.reader(), backup.last().snapshot.root)
    source = Path(os.fsdecode(backup.source))
    assert differences(source, tmp_path / "again" / "source") == []
