"""Locking, as the table of docs/mount.md has it: afterwards nothing is readable, in any way."""

import errno
import mmap
import os
import signal
import stat
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from agent.control.session_messages import Sealed
from agent.launcher import mounting
from agent.model.tree import Entry, Kind
from tests.fakes.tree_reader import TreeReaderFake
from tests.fuse.conftest import PATIENCE_S, MakeSession, Session, run_as
from tests.fuse.session import STUCK

pytestmark = [pytest.mark.root, pytest.mark.fuse]

TAKEN_NS = 1_700_000_000_000_000_000
CONTENT = b"Doe^Jane" * 100_000
REFUSED = {errno.EACCES, errno.ENOTCONN, errno.ECONNABORTED}  # by the worker, or by its end
PYTHON_OF_ALL = tuple(
    map(int, run_as(1000, "import sys; print(*sys.version_info[:2])").stdout.split())
)
USER = 1000
OTHER = 1001

READ_ON_MAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
total = sum(view[at] for at in range(0, len(view), 4096))
print("mapped", flush=True)
sys.stdin.readline()
print("still readable:", view[0], flush=True)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a source with one study."""
    (tmp_path / "study/deep").mkdir(parents=True)
    (tmp_path / "study/image").write_bytes(CONTENT)
    (tmp_path / "study/deep/image").write_bytes(CONTENT)
    (tmp_path / "study/secret").write_bytes(CONTENT)
    (tmp_path / "study/secret").chmod(0o600)
    return tmp_path / "study"


def mounted(make_session: MakeSession, source: Path, **options: object) -> Session:
    """Mount one snapshot of `source`."""
    reader = TreeReaderFake()
    snapshot = reader.snapshot([reader.store_source(source)], taken_ns=TAKEN_NS)
    return make_session(reader, [snapshot], **options)


def close(file: int) -> None:
    """Close a file of a mount that may be gone: the kernel then says so, and closes it."""
    with suppress(OSError):
        os.close(file)


def refusal(path: str | Path | int) -> int:
    """Return the errno of using a path, or an open file, or 0 where it works."""
    try:
        if isinstance(path, int):
            os.pread(path, 8, 0)
        else:
            os.lstat(path)
    except OSError as error:
        return error.errno or -1
    return 0


def test_nothing_is_readable_once_the_worker_says_sealed(
    source: Path, make_session: MakeSession
) -> None:
    """Path, old descriptor, old directory and map: refused before anything is unmounted."""
    session = mounted(make_session, source)
    image = session.path / "latest/study/image"
    file = os.open(image, os.O_RDONLY)
    directory = os.open(session.path / "latest/study", os.O_RDONLY)
    assert os.pread(file, len(CONTENT), 0) == CONTENT
    assert "image" in os.listdir(directory)
    # the bytes are in the page cache, so refusing alone would not be enough
    with session.held():
        assert os.pread(file, len(CONTENT), 0) == CONTENT
        assert refusal(image) == 0

    session.shut()
    assert refusal(file) == errno.EACCES
    assert refusal(image) == errno.EACCES
    assert refusal(session.path / "latest/study/deep/image") == errno.EACCES
    assert refusal(session.path / "by-time") == errno.EACCES
    with pytest.raises(PermissionError):
        os.listdir(directory)
    with pytest.raises(PermissionError):
        os.stat("image", dir_fd=directory)
    with pytest.raises(PermissionError):
        image.read_bytes()

    mounting.detach(session.path)
    os.close(directory)
    assert refusal(file) in REFUSED
    close(file)
    assert session.wait() == 0


def test_map_gets_sigbus(source: Path, make_session: MakeSession) -> None:
    """A program that mapped a file before is stopped by the kernel at its next look."""
    session = mounted(make_session, source)
    child = subprocess.Popen(
        [sys.executable, "-c", READ_ON_MAP, session.path / "latest/study/image"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"mapped\n"
    session.shut()
    said, _ = child.communicate(b"\n", timeout=PATIENCE_S)
    assert (said, child.returncode) == (b"", -signal.SIGBUS)


def test_map_stays_readable_without_invalidation(source: Path, make_session: MakeSession) -> None:
    """Why the order matters: a killed worker leaves what was mapped (docs/mount.md says so)."""
    session = mounted(make_session, source)
    with open(session.path / "latest/study/image", "rb") as file:
        # read first: a page fault holds the interpreter, and this process is the gate as well
        assert file.read() == CONTENT
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert view[:] == CONTENT
    session.worker.kill()
    session.wait()
    assert view[:8] == b"Doe^Jane"
    view.close()


def test_gate_that_hangs_up_locks(source: Path, make_session: MakeSession) -> None:
    """The gate's end is the session's end: everything is refused and the worker goes by itself."""
    session = mounted(make_session, source)
    file = os.open(session.path / "latest/study/image", os.O_RDONLY)
    assert os.pread(file, len(CONTENT), 0) == CONTENT
    session.hang_up()
    assert session.wait() == 0
    assert refusal(file) in REFUSED
    close(file)


def test_session_ends_by_itself(source: Path, make_session: MakeSession) -> None:
    """At the granted end the worker locks without being told."""
    session = mounted(make_session, source)
    file = os.open(session.path / "latest/study/image", os.O_RDONLY)
    assert os.pread(file, len(CONTENT), 0) == CONTENT
    session.let_hours_pass()
    assert session.wait_for(Sealed)
    assert refusal(file) in REFUSED
    close(file)
    assert session.wait() == 0
    assert "the session's time is over" in session.log.read_text()


def test_sigterm_locks(source: Path, make_session: MakeSession) -> None:
    """Asked to end by the launcher or the system, a worker locks first."""
    session = mounted(make_session, source)
    (session.path / "latest/study/image").read_bytes()
    session.worker.terminate()
    assert session.wait_for(Sealed)
    assert session.wait() == 0


def test_read_that_waits_for_storage_does_not_hold_up_the_lock(
    source: Path, make_session: MakeSession
) -> None:
    """Storage that never answers: the reader gets EACCES and the session is sealed all the same."""
    (source / "stuck").write_bytes(STUCK)
    session = mounted(make_session, source)
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import os, sys
                file = os.open(sys.argv[1], os.O_RDONLY)
                print("opened", flush=True)
                try:
                    os.read(file, 8)
                except OSError as error:
                    print(error.errno, flush=True)
            """),
            session.path / "latest/study/stuck",
        ],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"opened\n"
    while b" D " not in _state(child.pid) and b" S " not in _state(child.pid):
        os.sched_yield()
    session.shut()
    assert child.communicate(timeout=PATIENCE_S)[0] == b"%d\n" % errno.EACCES


def _state(pid: int) -> bytes:
    return Path(f"/proc/{pid}/stat").read_bytes()


def test_every_one_of_many_inodes_is_invalidated(make_session: MakeSession) -> None:
    """Thirty thousand names that the kernel knows: not one answers afterwards."""
    reader = TreeReaderFake()
    names = [b"%05d" % number for number in range(30_000)]
    entries = [Entry(name=name, mode=0o644) for name in names]
    tree = Entry(name=b"s", kind=Kind.DIRECTORY, mode=0o755, tree=reader.put_directory(entries))
    session = make_session(reader, [reader.snapshot([tree], taken_ns=TAKEN_NS)])
    root = os.fsencode(session.path / "latest/s")
    with os.scandir(root) as listing:
        assert sum(1 for entry in listing if entry.stat().st_mode) == len(names)
    session.shut()
    answers = {refusal(os.fsdecode(os.path.join(root, name))) for name in names[::7]}
    assert answers == {errno.EACCES}


def test_killed_worker_leaves_no_hanging_mount(source: Path, make_session: MakeSession) -> None:
    """After kill -9 every access is an error at once; none waits for an answer."""
    session = mounted(make_session, source)
    file = os.open(session.path / "latest/study/image", os.O_RDONLY)
    session.worker.kill()
    session.wait()
    assert refusal(file) in REFUSED
    assert refusal(session.path / "latest/study/deep") == errno.ENOTCONN
    close(file)


def test_kernel_refuses_everybody_but_the_session_s_user(
    source: Path, make_session: MakeSession
) -> None:
    """The user reads all of it, whatever the archived modes; another user and root are refused."""
    session = mounted(make_session, source, uid=USER)
    secret = str(session.path / "latest/study/secret")
    read = "import sys; print(len(open(sys.argv[1], 'rb').read()))"
    owner = run_as(USER, read, secret)
    assert owner.stdout == f"{len(CONTENT)}\n", owner.stderr
    other = run_as(OTHER, read, secret)
    assert "PermissionError" in other.stderr
    # root is not asked for its capabilities here: the kernel looks at who mounted it for whom
    assert refusal(secret) == errno.EACCES
    assert refusal(session.path / "latest") == errno.EACCES


def test_mount_of_one_s_own_is_locked_and_unmounted(
    source: Path, make_session: MakeSession
) -> None:
    """Through fusermount3 the worker mounts and unmounts by itself."""
    session = mounted(make_session, source, own=True)
    image = session.path / "latest/study/image"
    file = os.open(image, os.O_RDONLY)
    assert os.pread(file, len(CONTENT), 0) == CONTENT
    session.shut()
    assert session.wait() == 0
    assert refusal(file) in REFUSED
    close(file)
    assert refusal(image) == errno.ENOENT
    assert not _is_mounted(session.path)


def test_ordinary_user_mounts_for_themself(source: Path, make_session: MakeSession) -> None:
    """Without any privilege: a user's own worker, through fusermount3, for that user alone."""
    if sys.version_info[:2] != PYTHON_OF_ALL:
        pytest.skip("no interpreter that another user may run has this one's packages")
    if not os.stat("/dev/fuse").st_mode & stat.S_IWOTH:
        pytest.skip("/dev/fuse is not for everybody here")
    session = mounted(make_session, source, own=True, worker_uid=USER)
    image = str(session.path / "latest/study/image")
    read = "import sys; print(len(open(sys.argv[1], 'rb').read()))"
    assert run_as(USER, read, image).stdout == f"{len(CONTENT)}\n"
    assert "PermissionError" in run_as(OTHER, read, image).stderr
    assert refusal(image) == errno.EACCES
    session.shut()
    assert session.wait() == 0
    assert not _is_mounted(session.path)


def _is_mounted(path: Path) -> bool:
    return bytes(path) in {one.point for one in mounting.mounts_below(path.parent)}
