"""What a mount shows is what was backed up: bytes, names, kinds, attributes."""

import errno
import hashlib
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest

from agent.control.messages import Failed
from agent.control.session_messages import Opened
from agent.crypto.naming import object_name
from agent.model.tree import Entry, Flaw, Kind
from tests.fakes.tree_reader import TreeReaderFake
from tests.fuse.conftest import MakeSession, Session
from tests.fuse.session import BROKEN

pytestmark = [pytest.mark.root, pytest.mark.fuse]

TAKEN_NS = 1_700_000_000_123_456_789
NAMES = [b"plain", b"\xff\xfe not utf-8", b"new\nline", b" ", b"-rf", b"x" * 255, "übung".encode()]


def awkward_tree(at: Path) -> Path:
    """Make a tree of awkward names, kinds and attributes."""
    at.mkdir()
    root = os.fsencode(at)
    for number, raw in enumerate(NAMES):
        path = os.path.join(root, raw)
        with open(path, "wb") as file:
            file.write(raw * (number * 1000))
        os.chmod(path, [0o644, 0o600, 0o4755, 0o2711, 0o1000, 0o000, 0o7777][number])
        os.chown(path, number, 1000 + number)
        os.utime(path, ns=(1, 1_600_000_000_000_000_001 + number))
    deep = at
    for _ in range(40):
        deep /= "d" * 20
        deep.mkdir()
    (deep / "bottom").write_bytes(b"b")
    (at / "empty").touch()
    (at / "empty-directory").mkdir()
    (at / "big").write_bytes(os.urandom(5_000_000))  # over 64 extents: content pages
    with open(at / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(10_000_000)
        file.write(b"middle" * 100)
        file.truncate(20_000_000)
    os.symlink(b"/nowhere/\xff", root + b"/dangling")
    os.symlink("plain", at / "link")
    for name in ("hard1", "hard2", "empty-directory/hard3"):
        (at / name).hardlink_to(at / "big")
    os.mkfifo(at / "fifo", 0o640)
    os.mknod(at / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(at / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 65))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(at / "socket"))
    os.setxattr(at / "plain", "user.note", b"\0\xff value")
    os.setxattr(at / "plain", "user.empty", b"")
    for arguments in (["-m", "u:1234:r,g:99:rw"], ["-d", "-m", "u:77:rwx"]):
        target = "empty-directory" if "-d" in arguments else "link"
        subprocess.run(["setfacl", *arguments, at / target], check=True)
    return at


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything a program can see of a tree, by path."""
    seen: dict[bytes, tuple[object, ...]] = {}
    groups: dict[int, bytes] = {}
    base = os.fsencode(root)
    for directory, directories, files in os.walk(base):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode)
            is_directory = stat.S_ISDIR(status.st_mode)
            seen[os.path.relpath(path, base)] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_rdev,
                None if is_directory else (status.st_size, status.st_nlink),
                groups.setdefault(status.st_ino, path[len(base) :]),
                {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                },
                os.readlink(path) if stat.S_ISLNK(status.st_mode) else b"",
                hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest() if regular else b"",
            )
    return seen


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a small source."""
    (tmp_path / "study").mkdir()
    (tmp_path / "study/one").write_bytes(b"one" * 1000)
    (tmp_path / "study/two").write_bytes(b"two" * 1000)
    return tmp_path / "study"


def mounted(make_session: MakeSession, source: Path, **options: object) -> Session:
    """Mount one snapshot of `source`."""
    reader = TreeReaderFake()
    snapshot = reader.snapshot([reader.store_source(source)], taken_ns=TAKEN_NS)
    return make_session(reader, [snapshot], **options)


def test_tree_in_the_mount_is_the_tree_that_was_stored(
    tmp_path: Path, make_session: MakeSession
) -> None:
    """Names, kinds, modes, owners, times, devices, links, xattrs, targets and bytes are equal."""
    source = awkward_tree(tmp_path / "source")
    session = mounted(make_session, source)
    shown = describe(session.path / "latest/source")
    assert shown == describe(source)
    assert len(shown) > 60


def test_diff_finds_no_difference(tmp_path: Path, make_session: MakeSession) -> None:
    """The tool an administrator would use agrees."""
    source = awkward_tree(tmp_path / "source")
    session = mounted(make_session, source)
    diff = subprocess.run(
        ["diff", "-r", "--no-dereference", source, session.path / "latest/source"],
        capture_output=True,
        check=False,
    )
    said = [
        line
        for line in diff.stdout.splitlines()
        # of special files diff says only that it does not compare them
        if not line.endswith((b"is a socket", b"is a fifo", b"special file"))
    ]
    assert (said, diff.stderr) == ([], b"")


def test_getfacl_sees_the_archived_acls(tmp_path: Path, make_session: MakeSession) -> None:
    """Access and default ACLs come through the mount as getfacl shows them."""
    source = awkward_tree(tmp_path / "source")
    session = mounted(make_session, source)

    def acls(root: Path) -> bytes:
        names = ["plain", "empty-directory", "big"]
        return subprocess.run(
            ["getfacl", "-n", *names], cwd=root, capture_output=True, check=True
        ).stdout

    assert acls(session.path / "latest/source") == acls(source)
    assert b"user:1234:r--" in acls(source)
    assert b"default:user:77:rwx" in acls(source)


def test_sparse_file_is_seen_as_sparse(tmp_path: Path, make_session: MakeSession) -> None:
    """Blocks count data only, so that `tar -S` stores kilobytes of a 20 MB file of holes."""
    source = awkward_tree(tmp_path / "source")
    session = mounted(make_session, source)
    assert (session.path / "latest/source/sparse").stat().st_blocks * 512 < 100_000
    archive = tmp_path / "a.tar"
    subprocess.run(
        ["tar", "-cSf", archive, "-C", session.path / "latest/source", "sparse"], check=True
    )
    assert archive.stat().st_size < 100_000
    with tarfile.open(archive) as tar:
        (member,) = tar.getmembers()
        extracted = tar.extractfile(member)
        assert extracted is not None
        assert extracted.read() == (source / "sparse").read_bytes()


def test_large_directory_lists_each_name_once(tmp_path: Path, make_session: MakeSession) -> None:
    """20,000 entries over many pages: all there, once, with their attributes, twice over."""
    reader = TreeReaderFake()
    names = {b"%08x.dcm" % (number * 2_654_435_761 % 2**32) for number in range(20_000)}
    entries = [Entry(name=name, size=7, mode=0o644, mtime_ns=TAKEN_NS) for name in names]
    source = Entry(
        name=b"images", kind=Kind.DIRECTORY, mode=0o755, tree=reader.put_directory(entries)
    )
    snapshot = reader.snapshot([source], taken_ns=TAKEN_NS)
    session = make_session(reader, [snapshot])
    directory = os.fsencode(session.path / "latest/images")
    for _ in range(2):
        with os.scandir(directory) as listing:
            found = [(entry.name, entry.stat().st_size) for entry in listing]
        assert len(found) == len(names)
        assert dict(found) == dict.fromkeys(names, 7)


def test_places_show_the_same_snapshot(source: Path, make_session: MakeSession) -> None:
    """`latest`, `by-time` and `snapshots` lead to equal content; files are one inode."""
    session = mounted(make_session, source)
    (time_path,) = (session.path / "by-time").glob("*/*")
    (id_path,) = (session.path / "snapshots").iterdir()
    places = [session.path / "latest", time_path, id_path]
    assert len({(place / "study/one").stat().st_ino for place in places}) == 1
    # a directory has one number a place: the kernel gives a directory one parent
    assert len({(place / "study").stat().st_ino for place in places}) == 3
    assert {(place / "study/one").read_bytes() for place in places} == {b"one" * 1000}


def test_inodes_are_the_same_after_a_remount(tmp_path: Path, make_session: MakeSession) -> None:
    """Programs that remember files by number still mean the same file in the next session."""
    source = awkward_tree(tmp_path / "source")

    def numbers() -> dict[str, int]:
        root = mounted(make_session, source).path
        return {
            os.path.relpath(os.path.join(directory, name), root): os.lstat(
                os.path.join(directory, name)
            ).st_ino
            for directory, directories, files in os.walk(root)
            for name in directories + files
        }

    assert numbers() == numbers()


def test_hard_links_share_a_number_in_one_snapshot_only(
    tmp_path: Path, make_session: MakeSession
) -> None:
    """Two snapshots of one hard-linked file are two files."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"a")
    (source / "b").hardlink_to(source / "a")
    reader = TreeReaderFake()
    stored = reader.store_source(source)
    session = make_session(
        reader,
        [
            reader.snapshot([stored], taken_ns=TAKEN_NS),
            reader.snapshot([stored], taken_ns=TAKEN_NS + 10**9, sequence=2),
        ],
    )
    first, second = sorted((session.path / "snapshots").iterdir())
    numbers = [
        {(place / "source" / name).stat().st_ino for name in ("a", "b")}
        for place in (first, second)
    ]
    assert [len(one) for one in numbers] == [1, 1]
    assert numbers[0] != numbers[1]


def test_nothing_can_be_written(source: Path, make_session: MakeSession) -> None:
    """Every way to change something is EROFS."""
    session = mounted(make_session, source)
    place = session.path / "latest/study"
    for attempt in (
        lambda: (place / "one").write_bytes(b"x"),
        (place / "new").mkdir,
        (place / "one").unlink,
        lambda: (place / "one").rename(place / "three"),
        lambda: (place / "one").chmod(0o600),
        lambda: os.setxattr(place / "one", "user.x", b""),
    ):
        with pytest.raises(OSError, match="Read-only") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    assert not os.access(place / "one", os.W_OK)
    assert os.access(place / "one", os.R_OK)


def test_missing_names_and_attributes_are_told_apart(
    source: Path, make_session: MakeSession
) -> None:
    """ENOENT and ENODATA, and xattrs of other files are still there afterwards."""
    os.setxattr(source / "two", "user.k", b"v")
    session = mounted(make_session, source)
    place = session.path / "latest/study"
    with pytest.raises(FileNotFoundError):
        (place / "three").stat()
    with pytest.raises(OSError, match="No data") as caught:
        os.getxattr(place / "one", "user.k")
    assert caught.value.errno == errno.ENODATA
    assert os.getxattr(place / "two", "user.k") == b"v"


def test_digests_can_be_asked_for_and_are_in_no_listing(
    source: Path, make_session: MakeSession
) -> None:
    """A file's BLAKE3 and a directory's tree id are attributes that no copy takes along."""
    session = mounted(make_session, source)
    place = session.path / "latest/study"
    digest = object_name((source / "one").read_bytes()).hex().encode()
    assert os.getxattr(place / "one", "user.vitrine.blake3") == digest
    assert len(os.getxattr(place, "user.vitrine.tree")) == 64
    assert os.listxattr(place / "one") == os.listxattr(place) == []


def test_unread_file_is_an_error_and_not_empty(source: Path, make_session: MakeSession) -> None:
    """A file whose content was never read has its attributes, and EIO for its bytes."""
    reader = TreeReaderFake()
    stored = reader.store_source(source)
    flawed = Entry(name=b"flawed", size=10, mode=0o644, flaw=Flaw.UNREADABLE)
    directory = reader.put_directory([flawed])
    snapshot = reader.snapshot([msgspec.structs.replace(stored, tree=directory)], taken_ns=TAKEN_NS)
    session = make_session(reader, [snapshot])
    flawed_path = session.path / "latest/study/flawed"
    assert flawed_path.stat().st_size == 10
    with pytest.raises(OSError, match="Input/output"):
        flawed_path.read_bytes()


def test_error_in_a_handler_does_not_end_the_mount(source: Path, make_session: MakeSession) -> None:
    """A bug costs one read EIO; its text is not logged and everything else goes on."""
    (source / "broken").write_bytes(BROKEN)
    session = mounted(make_session, source)
    place = session.path / "latest/study"
    with pytest.raises(OSError, match="Input/output"):
        (place / "broken").read_bytes()
    assert (place / "one").read_bytes() == b"one" * 1000
    log = session.log.read_text()
    assert "KeyError" in log
    assert "Doe" not in log
    assert "broken" not in log


def test_key_that_the_gate_refuses_is_an_error_and_no_more(
    source: Path, make_session: MakeSession
) -> None:
    """A refusal reaches the reader as EACCES; asked again, the gate may say yes."""
    session = mounted(make_session, source)
    session.refusal = Failed("AccessDenied", "refused")
    place = session.path / "latest/study"
    with pytest.raises(PermissionError):
        (place / "one").read_bytes()
    session.refusal = None
    assert (place / "one").read_bytes() == b"one" * 1000


def test_opened_files_are_reported_by_directory(source: Path, make_session: MakeSession) -> None:
    """The gate hears how many files of which directory were opened, and no name."""
    session = mounted(make_session, source)
    (id_path,) = (session.path / "snapshots").iterdir()
    for place in (session.path / "latest", id_path):
        (place / "study/one").read_bytes()
        (place / "study/two").read_bytes()
    session.shut()
    assert session.said(Opened)
    ((digest, count),) = session.opened().items()
    assert (len(digest), count) == (16, 4)


def test_totals_are_those_of_the_newest_snapshot(source: Path, make_session: MakeSession) -> None:
    """`df` shows what is there, and no room."""
    totals = os.statvfs(mounted(make_session, source).path)
    assert totals.f_files == 2
    assert totals.f_blocks == 2
    assert totals.f_bfree == totals.f_bavail == 0


def test_reads_anywhere_in_a_long_file_are_right(tmp_path: Path, make_session: MakeSession) -> None:
    """Random and unaligned reads of a file with content pages and holes."""
    source = tmp_path / "source"
    source.mkdir()
    data = bytearray(os.urandom(6_000_000))
    data[1_000_000:3_000_000] = bytes(2_000_000)
    (source / "f").write_bytes(data)
    reader = TreeReaderFake()
    parts: list[bytes | int] = [
        bytes(data[at : at + 50_000]) if any(data[at : at + 50_000]) else 50_000
        for at in range(0, len(data), 50_000)
    ]
    content, depth = reader.put_content(parts)
    assert depth == 1
    entry = Entry(name=b"f", size=len(data), content=content, depth=depth)
    stored = Entry(name=b"s", kind=Kind.DIRECTORY, tree=reader.put_directory([entry]))
    session = make_session(reader, [reader.snapshot([stored], taken_ns=TAKEN_NS)])
    with open(session.path / "latest/s/f", "rb", buffering=0) as file:
        for at in (0, 5_999_999, 2_999_990, 999_990, 3_000_000, 49_999, 5_000_001, 6_000_000):
            assert os.pread(file.fileno(), 100_003, at) == data[at : at + 100_003]


def test_small_file_in_memory_comes_with_the_open(source: Path, make_session: MakeSession) -> None:
    """Its bytes are in the kernel's cache before anything is read; of an open file they stay so."""
    (source / "two").write_bytes(b"one" * 1000)  # the same chunk as `one`
    session = mounted(make_session, source)
    place = session.path / "latest/study"
    assert (place / "one").read_bytes() == b"one" * 1000
    with open(place / "two", "rb", buffering=0) as file:
        with session.held():
            assert os.pread(file.fileno(), 4096, 0) == b"one" * 1000
        with open(place / "two", "rb", buffering=0) as again:
            assert again.read() == b"one" * 1000


def test_files_read_one_after_the_other_are_right(
    tmp_path: Path, make_session: MakeSession
) -> None:
    """A walk over small directories: files of several chunks, and holes, given with the open."""
    source = tmp_path / "source"
    for number in range(30):
        (source / f"{number:02}").mkdir(parents=True)
        with open(source / f"{number:02}/image", "wb") as file:
            file.write(os.urandom(150_000 + number))
            file.truncate(300_000 + number)  # a hole of two chunks and a bit
    session = mounted(make_session, source)
    for number in range(30):
        path = f"{number:02}/image"
        shown = (session.path / "latest/source" / path).read_bytes()
        assert shown == (source / path).read_bytes()
