"""A disk that loses at a power cut what was not synced: every state that it can be found in.

`RecordedOs` stands for the module `os` in the code under test.  It carries every call out, and
notes those that change the disk.  `Disk` says what may lie there if the power goes after the first
n of them.  It is as unkind as POSIX allows:

- a name (made, linked or removed) is sure only after fsync of its directory, and of those that are
  not sure any may have come through, in any order: all subsets of up to MAX_FREE names are tried,
  of more each alone and each left out;
- written bytes are sure only after fsync of their file: what is not is lost, half there, or there;
- syncing a file says nothing about its name.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any, NamedTuple

MAX_FREE = 6
ROOT = 0


class Named(NamedTuple):
    """A name in a directory now stands for a node, or for none."""

    directory: int
    name: str
    node: int | None
    is_directory: bool = False


class Written(NamedTuple):
    """Bytes were appended to a file."""

    node: int
    data: bytes


class Synced(NamedTuple):
    """A file's bytes, or a directory's names, are sure."""

    node: int


Change = Named | Written | Synced
State = tuple[tuple[str, bytes | None], ...]
"""Every path that is there: a file's bytes, or None for a directory; sorted."""


class RecordedOs:
    """The module `os`, below one directory that only it changes, and that starts empty."""

    def __init__(self, root: str, before: Callable[[int], None] = lambda _: None) -> None:
        """Hear of each change before it is made: of how many came before it."""
        self.changes: list[Change] = []
        self._before = before
        self._lock = threading.RLock()
        self._nodes = {os.stat(root).st_ino: ROOT}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever `os` has
        """Return what is not recorded as it is."""
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Open; note a new file."""
        if not flags & os.O_CREAT:
            return os.open(path, flags, mode, dir_fd=dir_fd)
        assert flags & os.O_EXCL, "whether the file is new could not be told"
        with self._lock:
            self._before(len(self.changes))
            file = os.open(path, flags, mode, dir_fd=dir_fd)
            self.changes.append(Named(self._node(dir_fd), path, self._new(os.fstat(file))))
        return file

    def mkdir(self, path: str, mode: int, *, dir_fd: int) -> None:
        """Make a directory."""
        with self._lock:
            self._before(len(self.changes))
            os.mkdir(path, mode, dir_fd=dir_fd)
            node = self._new(os.stat(path, dir_fd=dir_fd))
            self.changes.append(Named(self._node(dir_fd), path, node, is_directory=True))

    def link(
        self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool
    ) -> None:
        """Give a file another name."""
        with self._lock:
            self._before(len(self.changes))
            os.link(
                src,
                dst,
                src_dir_fd=src_dir_fd,
                dst_dir_fd=dst_dir_fd,
                follow_symlinks=follow_symlinks,
            )
            node = self._nodes[os.stat(src, dir_fd=src_dir_fd).st_ino]
            self.changes.append(Named(self._node(dst_dir_fd), dst, node))

    def unlink(self, path: str, *, dir_fd: int) -> None:
        """Remove a name."""
        with self._lock:
            self._before(len(self.changes))
            os.unlink(path, dir_fd=dir_fd)
            self.changes.append(Named(self._node(dir_fd), path, None))

    def writev(self, file: int, parts: Sequence[memoryview]) -> int:
        """Append to a file."""
        with self._lock:
            self._before(len(self.changes))
            written = os.writev(file, parts)
            self.changes.append(Written(self._node(file), b"".join(parts)[:written]))
            return written

    def fsync(self, file: int) -> None:
        """Make sure, in the simulation alone."""
        with self._lock:
            self._before(len(self.changes))
            self.changes.append(Synced(self._node(file)))

    def _node(self, descriptor: int | None) -> int:
        assert descriptor is not None, "a path that is not below an open directory"
        return self._nodes[os.fstat(descriptor).st_ino]

    def _new(self, status: os.stat_result) -> int:
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        node = 1 + sum(isinstance(c, Named) and c.node is not None for c in self.changes)
        self._nodes[status.st_ino] = node
        return node


def states(changes: Sequence[Change], *, tails: Sequence[float] = (0.0, 0.5, 1.0)) -> set[State]:
    """Return what the disk may hold if the power goes right after `changes`.

    `tails` are how much of what was written and not synced has come through.
    """
    sure = _sure(changes)
    free = [n for n, change in enumerate(changes) if isinstance(change, Named) and n not in sure]
    found: set[State] = set()
    for chosen in _subsets(free):
        names = [
            change
            for n, change in enumerate(changes)
            if isinstance(change, Named) and (n in sure or n in chosen)
        ]
        for tail in tails:
            found.add(_tree(names, _bytes(changes, tail)))
    return found


def _sure(changes: Sequence[Change]) -> set[int]:
    """Return the numbers of the changes of names that were synced."""
    last: dict[int, int] = {c.node: n for n, c in enumerate(changes) if isinstance(c, Synced)}
    return {
        n
        for n, change in enumerate(changes)
        if isinstance(change, Named) and n < last.get(change.directory, -1)
    }


def _subsets(free: list[int]) -> Iterator[frozenset[int]]:
    if len(free) <= MAX_FREE:
        sizes = range(len(free) + 1)
        yield from map(frozenset, chain.from_iterable(combinations(free, n) for n in sizes))
        return
    yield from (frozenset(), frozenset(free))
    for one in free:
        yield from (frozenset({one}), frozenset(free) - {one})


def _bytes(changes: Sequence[Change], tail: float) -> dict[int, bytes]:
    sure: dict[int, bytes] = {}
    open_ended: dict[int, bytes] = {}
    for change in changes:
        if isinstance(change, Written):
            open_ended[change.node] = open_ended.get(change.node, b"") + change.data
        elif isinstance(change, Synced) and change.node in open_ended:
            sure[change.node] = sure.get(change.node, b"") + open_ended.pop(change.node)
    for node, data in open_ended.items():
        sure[node] = sure.get(node, b"") + data[: int(len(data) * tail)]
    return sure


def _tree(names: Sequence[Named], held: dict[int, bytes]) -> State:
    entries: dict[int, dict[str, Named]] = {}
    for change in names:
        below = entries.setdefault(change.directory, {})
        if change.node is None:
            below.pop(change.name, None)
        else:
            below[change.name] = change
    found: dict[str, bytes | None] = {}

    def visit(node: int, above: str) -> None:
        for name, child in entries.get(node, {}).items():
            assert child.node is not None
            found[above + name] = None if child.is_directory else held.get(child.node, b"")
            if child.is_directory:
                visit(child.node, above + name + "/")

    visit(ROOT, "")
    return tuple(sorted(found.items()))


def lay_out(state: State, root: str) -> None:
    """Make a directory that holds what the disk held."""
    os.makedirs(root)
    for path, data in state:
        if data is None:
            os.mkdir(os.path.join(root, path))
            continue
        with open(os.path.join(root, path), "wb") as file:
            file.write(data)
