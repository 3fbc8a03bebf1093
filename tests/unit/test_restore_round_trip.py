"""What was backed up comes back the same: every kind of file, and all that belongs to it."""

import gc
import os
import random
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from agent.errors import NotFound, RestoreRefused
from agent.store.memory import MemoryStore
from tests.conftest import missing_programs
from tests.fakes import restores
from tests.fakes.backups import BackupFixture
from tests.fakes.compare import differences
from tests.fakes.restores import reported, restore_to

MiB = 1024 * 1024


@pytest.fixture(autouse=True, params=[0, 2], ids=["threads", "processes"])
def _writers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files written by either kind of writers: what holds for one holds for the other."""
    monkeypatch.setattr(restores, "PROCESSES", request.param)


@pytest.fixture
def backup(tmp_path: Path) -> BackupFixture:
    """Return a backup of an empty source."""
    return BackupFixture(MemoryStore(), tmp_path)


def _source(backup: BackupFixture) -> Path:
    return Path(os.fsdecode(backup.source))


def _round_trip(backup: BackupFixture, tmp_path: Path) -> Path:
    """Back up, restore everything, return where the source came back."""
    backup.run()
    outcome = restore_to(tmp_path / "out", backup.reader(), backup.last().snapshot.root)
    assert outcome.failed == 0, reported(tmp_path / "out", outcome)
    assert (outcome.unset_owners, outcome.unset_xattrs) == (0, 0)
    assert os.listdir(tmp_path / "out") == ["source"], "nothing of ours is left behind"
    return tmp_path / "out" / "source"


def test_awkward_names_and_empty_things_come_back(backup: BackupFixture, tmp_path: Path) -> None:
    """Names are bytes: no encoding, newlines, leading dashes; empty files and directories too."""
    source = backup.source
    for name in (
        b"\xff\xfe",
        b"line\nbreak",
        b"-rf",
        b" ",
        b"a" * 255,
        "病人".encode(),
        b".hidden",
    ):
        Path(os.fsdecode(source + b"/" + name)).write_bytes(name)
    (_source(backup) / "empty").write_bytes(b"")
    (_source(backup) / "nothing" / "below").mkdir(parents=True)
    assert differences(_source(backup), _round_trip(backup, tmp_path)) == []


@pytest.mark.root
def test_owner_mode_and_nanosecond_times_come_back(backup: BackupFixture, tmp_path: Path) -> None:
    """Set-id and sticky bits survive the change of owner; directories keep times and no rights."""
    source = _source(backup)
    (source / "shut").mkdir()
    for number, mode in enumerate((0o4755, 0o2750, 0o000, 0o1777)):
        file = source / "shut" / f"f{number}"
        file.write_bytes(b"x")
        os.chown(file, 1000 + number, 2000)
        file.chmod(mode)
        os.utime(file, ns=(1, 1_600_000_000_123_456_789 + number))
    os.chown(source / "shut", 1234, 4321)
    (source / "shut").chmod(0o3500)
    for directory in (source / "shut", source):
        os.utime(directory, ns=(1, 981_173_106_000_000_001))
    assert differences(source, _round_trip(backup, tmp_path)) == []


@pytest.mark.root
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_come_back_whatever_new_files_get(
    backup: BackupFixture, tmp_path: Path, umask: int
) -> None:
    """With its own owner a file is made with its mode, where the umask leaves that."""
    source = _source(backup)
    for number, mode in enumerate((0, 0o400, 0o600, 0o640, 0o644, 0o664, 0o777, 0o4755)):
        (source / "d").mkdir(exist_ok=True)
        (source / "d" / f"f{number}").write_bytes(b"x")
        (source / "d" / f"f{number}").chmod(mode)
    before = os.umask(umask)
    try:
        restored = _round_trip(backup, tmp_path)
    finally:
        os.umask(before)
    assert differences(source, restored) == []


@pytest.mark.root
def test_every_kind_of_file_comes_back(backup: BackupFixture, tmp_path: Path) -> None:
    """Links as they read, pipes, sockets and device nodes; none is opened on the way."""
    source = _source(backup)
    (source / "link").symlink_to("nowhere/at all")
    (source / "to root").symlink_to("/")
    os.lchown(source / "link", 7, 8)
    os.mkfifo(source / "pipe", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 99))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "s"))
    os.utime(source / "link", ns=(5, 1_234_567_890_000_000_007), follow_symlinks=False)
    assert differences(source, _round_trip(backup, tmp_path)) == []


@pytest.mark.root
def test_extended_attributes_capabilities_and_acls_come_back(
    backup: BackupFixture, tmp_path: Path
) -> None:
    """Namespaces that root may set, default ACLs, and an ACL's mask beside the mode."""
    if missing_programs("setfacl"):
        pytest.skip("not installed: setfacl")
    source = _source(backup)
    (source / "d").mkdir()
    file = source / "d" / "f"
    file.write_bytes(b"x")
    os.setxattr(file, "user.study", b"\0\xffbinary")
    os.setxattr(file, "trusted.mark", b"1")
    os.setxattr(
        file, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    (source / "l").symlink_to("f")
    os.setxattr(source / "l", "trusted.link", b"on the link", follow_symlinks=False)
    subprocess.run(["setfacl", "-m", "u:1000:rw,g:7:r", str(file)], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx", str(source / "d")], check=True)
    assert differences(source, _round_trip(backup, tmp_path)) == []


@pytest.mark.root
def test_a_target_with_a_default_acl_adds_nothing(backup: BackupFixture, tmp_path: Path) -> None:
    """What is restored has the rights it had, not those that its new place would give."""
    if missing_programs("setfacl"):
        pytest.skip("not installed: setfacl")
    (_source(backup) / "d").mkdir()
    (_source(backup) / "d" / "f").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx", str(tmp_path / "out")], check=True)
    assert differences(_source(backup), _round_trip(backup, tmp_path)) == []


def test_hard_links_are_one_file_again(backup: BackupFixture, tmp_path: Path) -> None:
    """Groups of names in several directories, of files, links and pipes; no group joins another."""
    source = _source(backup)
    for directory in ("a", "b/c"):
        (source / directory).mkdir(parents=True)
    for name in ("one", "two"):
        (source / "a" / name).write_bytes(b"same bytes")
        os.link(source / "a" / name, source / "b" / "c" / f"also {name}")
        os.link(source / "a" / name, source / name)
    (source / "l").symlink_to("x")
    os.link(source / "l", source / "b" / "l", follow_symlinks=False)
    os.mkfifo(source / "p")
    os.link(source / "p", source / "b" / "p")
    assert differences(source, _round_trip(backup, tmp_path)) == []


def test_holes_stay_holes(backup: BackupFixture, tmp_path: Path) -> None:
    """At the start, between and at the end; a file of nothing but a hole."""
    source = _source(backup)
    with open(source / "sparse", "wb") as file:
        for at in (3 * MiB, 9 * MiB):
            file.seek(at)
            file.write(random.Random(at).randbytes(2 * MiB))
        file.truncate(15 * MiB)
    (source / "hole").touch()
    os.truncate(source / "hole", 64 * MiB)
    restored = _round_trip(backup, tmp_path)
    assert differences(source, restored) == []
    assert (restored / "hole").stat().st_blocks == 0


def test_large_files_come_back_window_by_window(backup: BackupFixture, tmp_path: Path) -> None:
    """More than one window, and more extents than an entry holds itself."""
    data = random.Random(1).randbytes(90 * MiB)
    (_source(backup) / "large").write_bytes(data)
    assert (_round_trip(backup, tmp_path) / "large").read_bytes() == data


def test_a_deep_tree_needs_no_descriptor_for_each_level(
    backup: BackupFixture, tmp_path: Path
) -> None:
    """Far more levels than are kept open, with a file in each."""
    here = os.open(backup.source, os.O_RDONLY)
    for level in range(400):
        with open(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
            file.write(b"%d" % level)
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    backup.run()
    reader, root = backup.reader(), backup.last().snapshot.root
    before = _open_descriptors()
    restore_to(tmp_path / "out", reader, root)
    assert _open_descriptors() <= before
    assert differences(_source(backup), tmp_path / "out" / "source") == []


def _open_descriptors() -> int:
    """Count them once what earlier tests left to the collector is gone."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_wanted_paths_alone_come_back_with_the_directories_above(
    backup: BackupFixture, tmp_path: Path
) -> None:
    """Directories on the way have their attributes; a path below another wanted one is once."""
    source = _source(backup)
    for path in ("ab/cd/one", "ab/cd/two", "ab/ef/three", "gh/four"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(path.encode())
    (source / "ab").chmod(0o711)
    backup.run()
    root = backup.last().snapshot.root
    wanted = [b"source/ab/cd", b"/source/ab/cd/one/", b"source/gh/four"]
    outcome = restore_to(tmp_path / "out", backup.reader(), root, wanted)
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*"))
    below = ["ab", "ab/cd", "ab/cd/one", "ab/cd/two", "gh", "gh/four"]
    assert found == ["source", *(f"source/{path}" for path in below)]
    assert (outcome.files, outcome.failed) == (3, 0)
    assert stat.S_IMODE((tmp_path / "out/source/ab").stat().st_mode) == 0o711


@pytest.mark.parametrize("path", [b"source/nobody", b"source/f/g", b"elsewhere", b"source/../f"])
def test_a_path_that_is_not_there_is_refused_before_anything_is_written(
    backup: BackupFixture, tmp_path: Path, path: bytes
) -> None:
    """The message does not repeat it: who restores may not be who may see names."""
    (_source(backup) / "f").write_bytes(b"x")
    backup.run()
    with pytest.raises(NotFound) as raised:
        restore_to(tmp_path / "out", backup.reader(), backup.last().snapshot.root, [path])
    assert path.decode() not in str(raised.value)
    assert os.listdir(tmp_path / "out") == []


def test_progress_reaches_the_total(backup: BackupFixture, tmp_path: Path) -> None:
    """Bytes and files, the total known from the start."""
    for number in range(5):
        (_source(backup) / f"f{number}").write_bytes(bytes([number]) * 1000)
    backup.run()
    told: list[tuple[int, int, int]] = []
    restore_to(
        tmp_path / "out",
        backup.reader(),
        backup.last().snapshot.root,
        on_progress=lambda *so_far: told.append(so_far),
    )
    assert told[-1] == (5000, 5000, 5)


@pytest.mark.parametrize("kind", ["link", "link with a slash", "file", "nowhere"])
def test_a_target_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    """A link least of all: where it leads may be changed by somebody else."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    paths = {
        "link": tmp_path / "link",
        "link with a slash": f"{tmp_path}/link/",
        "file": tmp_path / "file",
        "nowhere": tmp_path / "no" / "where",
    }
    backup = BackupFixture(MemoryStore(), tmp_path)
    backup.run()
    with pytest.raises(RestoreRefused):
        restore_to(paths[kind], backup.reader(), backup.last().snapshot.root)  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "real") == []
