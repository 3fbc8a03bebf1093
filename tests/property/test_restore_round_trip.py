"""Any tree that Linux can hold comes back from its backup as it was."""

import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.compare import differences
from tests.fakes.restores import restore_to

_BLOCK = 4096
_HOLE = 68 * 1024  # MIN_HOLE_BYTES of the backup, and a block in which data before it may end

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in {b".", b".."} and b"/" not in name and b"\0" not in name
)
times = st.integers(min_value=0, max_value=2**33 * 10**9)


@dataclass(frozen=True)
class Leaf:
    """A file of stretches (bytes, or a hole of so many _HOLEs), a link, or a pipe."""

    kind: str
    stretches: tuple[bytes | int, ...] = ()
    target: bytes = b"x"
    mode: int = 0o644
    mtime_ns: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    links: int = 0  # further names beside it


leaves = st.builds(
    Leaf,
    kind=st.sampled_from(["file", "file", "file", "link", "pipe"]),
    stretches=st.lists(
        st.one_of(st.binary(max_size=3 * _BLOCK), st.integers(1, 5)), max_size=4
    ).map(tuple),
    target=names,
    mode=st.integers(0, 0o7777),
    mtime_ns=times,
    xattrs=st.dictionaries(
        st.from_regex(rb"user\.[a-z]{1,8}", fullmatch=True), st.binary(max_size=64), max_size=2
    ),
    links=st.integers(0, 2),
)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda below: st.dictionaries(names, st.one_of(leaves, below), max_size=4),
    max_leaves=12,
)


def _make(directory: bytes, tree: dict[bytes, object]) -> None:
    for name, what in tree.items():
        path = directory + b"/" + name
        if os.path.lexists(path):
            continue  # a further name of another leaf
        if isinstance(what, dict):
            os.mkdir(path)
            _make(path, what)
        elif isinstance(what, Leaf):
            _make_leaf(directory, path, what)


def _make_leaf(directory: bytes, path: bytes, leaf: Leaf) -> None:
    if leaf.kind == "link":
        os.symlink(leaf.target, path)
    elif leaf.kind == "pipe":
        os.mkfifo(path)
    else:
        _write(path, leaf.stretches)
        for name, value in leaf.xattrs.items():
            os.setxattr(path, name, value)
    if leaf.kind != "link":
        os.chmod(path, leaf.mode)
    os.utime(path, ns=(0, leaf.mtime_ns), follow_symlinks=False)
    for number in range(leaf.links):
        other = directory + b"/%d-%d" % (os.lstat(path).st_ino, number)
        if not os.path.lexists(other):
            os.link(path, other, follow_symlinks=False)


def _write(path: bytes, stretches: tuple[bytes | int, ...]) -> None:
    with open(path, "wb") as file:
        at = 0
        for stretch in stretches:
            if isinstance(stretch, bytes):
                file.write(stretch)
                at += len(stretch)
            else:
                at += stretch * _HOLE
                file.seek(at)
        file.truncate(at)


@given(trees)
@settings(max_examples=30)
def test_every_tree_comes_back(tree: dict[bytes, object]) -> None:
    """Names, kinds, contents, holes, modes, times, attributes and links."""
    with tempfile.TemporaryDirectory() as scratch:
        backup = BackupFixture(MemoryStore(), Path(scratch))
        _make(backup.source, tree)
        backup.run()
        out = Path(scratch) / "out"
        outcome = restore_to(out, backup.reader(), backup.last().snapshot.root)
        backup.backup.close()
        assert outcome.failed == 0
        assert stat.S_ISDIR((out / "source").lstat().st_mode)
        assert differences(Path(os.fsdecode(backup.source)), out / "source") == []
