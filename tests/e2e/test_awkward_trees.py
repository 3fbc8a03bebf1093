"""Whatever a file system can hold comes back as it was: recovered, restored, and in the mount."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.e2e.hospital import VAULT, Installation
from tests.fakes.compare import differences

pytestmark = [pytest.mark.root, pytest.mark.fuse, pytest.mark.service("setfacl", "diff")]

KiB, MiB = 1024, 1024 * 1024
SOMEBODY = 65_004
SPECIAL = "special-"  # diff cannot compare what is no file: two equal FIFOs differ for it
SIZES = (0, 1, 4096, 128 * KiB - 1, 128 * KiB, 128 * KiB + 1, 5 * MiB)
TIMES_NS = {
    "before 1970": -86_400_000_000_001,
    "1970": 1,
    "last nanosecond": 1_700_000_000_999_999_999,
    "after 2038": 4_102_444_800_000_000_001,
}


def test_an_awkward_tree_is_the_same_in_the_mount_and_after_recovery_and_restore(
    place: Path,
) -> None:
    """Names, kinds, sizes, modes, owners, times, attributes, links and holes."""
    source = place / "pacs"
    source.mkdir()
    with _umask(0):
        for make in (
            _names,
            _kinds,
            _files,
            _sparse,
            _links,
            _attributes,
            _trusted,
            _modes,
            _times,
        ):
            below = source / make.__name__.strip("_")
            below.mkdir()
            make(below)
    os.utime(source / "times", ns=(0, TIMES_NS["last nanosecond"]))
    assert differences(source, source) == []
    hospital = Installation(place, source)
    hospital.found("it-administrator", "doctor")
    theirs = place / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, SOMEBODY, SOMEBODY)
    with hospital.up():
        snapshot = hospital.wait_for_snapshot(1)[-1].snapshot
        assert not snapshot.incomplete
        mount = Path(hospital.unlock(hospital.admin).path) / "latest" / "pacs"
        assert differences(source, mount, holes=False) == []
        assert _diff(source, mount) == ""
        _has_no_more_blocks(source / "sparse", mount / "sparse")
        said = hospital.vitrine(
            "restore", VAULT, "--target", str(theirs), *hospital.admin.factors(), "--json"
        )
        assert msgspec.json.decode(said.output)["failed"] == 0
    recovered = place / "recovered"
    hospital.recover(recovered)
    assert differences(source, recovered / "pacs") == []
    # the gate's worker has no CAP_SYS_ADMIN, which trusted.* takes (docs/restore.md)
    missing = differences(source, theirs / "pacs")
    assert [text.split(" ")[:2] for text in sorted(missing)] == [
        ["b'trusted/file':", "xattrs"],
        ["b'trusted/link':", "xattrs"],
    ]
    for copy in (theirs / "pacs", recovered / "pacs"):
        assert _diff(source, copy) == ""
        assert _top(copy) == _top(source)


def test_one_awkward_path_is_restored_alone(place: Path) -> None:
    """A path whose name is no text is named on the command line as any other."""
    source = place / "pacs"
    source.mkdir()
    _names(source)
    hospital = Installation(place, source)
    hospital.found("it-administrator")
    theirs = place / "theirs"
    theirs.mkdir()
    os.chown(theirs, SOMEBODY, SOMEBODY)
    wanted = os.fsdecode(b"not utf-8 \xff\xfe")
    with hospital.up():
        hospital.wait_for_snapshot(1)
        hospital.vitrine(
            "restore", VAULT, f"pacs/{wanted}", "--target", str(theirs), *hospital.admin.factors()
        )
    found = [path.relative_to(theirs) for path in theirs.rglob("*")]
    assert found == [Path("pacs"), Path("pacs") / wanted]
    assert (theirs / "pacs" / wanted).read_bytes() == (source / wanted).read_bytes()


# -- the tree ------------------------------------------------------------------------------------


def _names(below: Path) -> None:
    for name in (
        b"not utf-8 \xff\xfe", b"new\nline", b"tab\tand\\backslash", b" leading and trailing ",
        b"-rf", b"a" * 255, "Zuse \u202e\u0301".encode(), b"*?[x]", b'"', b"...", b"\x01\x7f",
    ):  # fmt: skip
        Path(os.fsdecode(os.fsencode(below) + b"/" + name)).write_bytes(name)
    deep = os.open(below, os.O_RDONLY)
    for _ in range(20):  # over 4,096 bytes: no call takes the whole path
        os.mkdir("d" * 250, dir_fd=deep)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
        if len(os.readlink(f"/proc/self/fd/{deep}")) > 3000:
            break
    file = os.open("at the bottom", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=deep)
    os.write(file, b"deep")
    os.close(file)
    os.close(deep)


def _kinds(below: Path) -> None:
    os.mkfifo(below / f"{SPECIAL}fifo", 0o622)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(below / f"{SPECIAL}socket"))
    os.mknod(below / f"{SPECIAL}null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(below / f"{SPECIAL}disk", stat.S_IFBLK | 0o660, os.makedev(250, 70_000))
    (below / "empty").mkdir()
    os.symlink("nowhere/at all", below / "dangling")
    os.symlink("empty", below / "to a directory")
    os.symlink(b"\xff\xfe\n", os.fsencode(below / "to no text"))
    os.symlink("/etc/passwd", below / "out of the tree")
    os.symlink("x" * 4000, below / "long")
    os.symlink("itself", below / "itself")
    os.chown(below / "dangling", 4_000_000_000, 17, follow_symlinks=False)


def _files(below: Path) -> None:
    random = Random(2)
    for size in SIZES:
        (below / f"random {size}").write_bytes(random.randbytes(size))
        (below / f"zeros {size}").write_bytes(bytes(size))
        (below / f"text {size}").write_bytes((b"a line like any other\n" * size)[:size])


def _sparse(below: Path) -> None:
    layouts = {
        "hole at the end": (8 * MiB, [0]),
        "hole first": (8 * MiB, [7 * MiB]),
        "holes between": (64 * MiB, [0, 3 * MiB, 20 * MiB, 63 * MiB]),
        "nothing but a hole": (1024 * MiB, []),
        "odd end": (3 * MiB + 17, [MiB]),
    }
    for name, (size, written) in layouts.items():
        with (below / name).open("wb") as file:
            file.truncate(size)
            for offset in written:
                file.seek(offset)
                file.write(os.urandom(256 * KiB))


def _links(below: Path) -> None:
    (below / "one").write_bytes(b"one file of three names")
    (below / "inner").mkdir()
    os.link(below / "one", below / "two")
    os.link(below / "one", below / "inner" / "three")
    os.symlink("one", below / "link")
    os.link(below / "link", below / "second name of a link", follow_symlinks=False)
    os.mkfifo(below / f"{SPECIAL}fifo")
    os.link(below / f"{SPECIAL}fifo", below / f"{SPECIAL}same fifo")


def _attributes(below: Path) -> None:
    file, directory = below / "file", below / "directory"
    file.write_bytes(b"with attributes")
    directory.mkdir()
    for path in (file, directory):
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
    os.setxattr(file, "user.long", b"v" * 1500)
    # VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE permitted
    os.setxattr(file, "security.capability", bytes.fromhex("0000000200040000" + "00" * 12))
    for options in (
        ["--modify", "user:65001:r,group:65002:rw,mask::r"],
        ["--modify", "user:4000000000:rwx"],
    ):
        subprocess.run(["setfacl", *options, str(file)], check=True)
    default = "default:user:65001:rx,default:group:65002:-"
    subprocess.run(["setfacl", "--modify", default, str(directory)], check=True)


def _trusted(below: Path) -> None:
    (below / "file").write_bytes(b"")
    os.symlink("file", below / "link")
    for path in (below / "file", below / "link"):
        os.setxattr(path, "trusted.vitrine", b"of root", follow_symlinks=False)


def _modes(below: Path) -> None:
    for mode in (0o0, 0o4755, 0o2755, 0o6711, 0o1644, 0o777, 0o400):
        file, directory = below / f"file {mode:o}", below / f"directory {mode:o}"
        file.write_bytes(b"")
        directory.mkdir()
        for path in (file, directory):
            os.chown(path, 65_001, 65_002)
            path.chmod(mode)
    os.chown(below / "file 400", 4_000_000_000, 4_000_000_001)


def _times(below: Path) -> None:
    for name, time_ns in TIMES_NS.items():
        (below / name).write_bytes(b"")
        os.symlink("x", below / f"link of {name}")
        (below / f"directory of {name}").mkdir()
        for path in (below / name, below / f"link of {name}", below / f"directory of {name}"):
            os.utime(path, ns=(0, time_ns), follow_symlinks=False)


# -- comparing -----------------------------------------------------------------------------------


def _diff(ours: Path, theirs: Path) -> str:
    """Return what diff says, of names that one call can take."""
    ran = subprocess.run(
        ["diff", "-r", "--no-dereference", f"--exclude={SPECIAL}*", str(ours), str(theirs)],
        capture_output=True, check=False, env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return (ran.stdout + ran.stderr).decode(errors="replace")


def _has_no_more_blocks(ours: Path, theirs: Path) -> None:
    """Compare what sparse files take: a mount shows no holes by SEEK_HOLE, but by st_blocks."""
    for path in ours.iterdir():
        taken = (theirs / path.name).stat().st_blocks
        assert taken <= path.stat().st_blocks, path.name


def _top(directory: Path) -> tuple[int, int, int, int]:
    """Return what belongs to the source itself, which no comparison of entries looks at."""
    st = directory.stat()
    return st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
