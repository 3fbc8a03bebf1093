"""Which entries of a snapshot are to be restored, in the order in which they are written.

Pure but for reading pages.  Directories come before what lies in them, names in byte order; memory
is one page a level, whatever the size of the tree.  Names that could lead anywhere but down do not
decode (agent.model.tree); a directory that lists one twice over several pages is noticed here.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from agent.errors import NotFound, ObjectDamaged, RepositoryError
from agent.model.tree import Entry, Kind, TreePage

MAX_LEVELS = 16  # 256 entries a page need 4 levels for 10⁹; a hostile tree needs a limit
_name = attrgetter("name")
_first = attrgetter("first")


class Pages(Protocol):
    """What reads a tree page."""

    def page(self, tree_id: bytes) -> TreePage:
        """Return the page, verified and decoded; may block."""
        ...


class Planned(NamedTuple):
    """An entry to restore."""

    parent: bytes  # path of its directory, relative to the snapshot's root; for reports only
    depth: int  # how many directories lie above it
    source: int  # which entry of the root it lies under: inodes are one source's own
    entry: Entry

    @property
    def path(self) -> bytes:
        """The entry's path relative to the snapshot's root."""
        return join(self.parent, self.entry.name)


class Lost(NamedTuple):
    """Something of the directory `parent` that cannot be restored, and why."""

    parent: bytes
    depth: int
    error: RepositoryError


Step = Planned | Lost
_Wanted = dict[bytes, "_Wanted | None"]  # None: everything below


@dataclass(frozen=True, slots=True)
class Selection:
    """Paths that exist, and what they come to."""

    reader: Pages
    root: bytes
    wanted: _Wanted | None
    files: int
    total_bytes: int

    def walk(self) -> Iterator[Step]:
        """Yield the directories on the way to what is wanted, and all that is wanted."""
        levels = [_Level(b"", self._children(self.root, self.wanted), self.wanted)]
        source = -1
        while levels:
            level = levels[-1]
            found = next(level.children, None)
            depth = len(levels) - 1
            if found is None:
                levels.pop()
            elif isinstance(found, RepositoryError):
                yield Lost(level.path, depth, found)
            else:
                source += not depth
                yield Planned(level.path, depth, source, found)
                if found.kind is Kind.DIRECTORY:
                    below = level.wanted[found.name] if level.wanted else None
                    children = self._children(found.tree, below)
                    levels.append(_Level(join(level.path, found.name), children, below))

    def _children(self, tree: bytes, wanted: _Wanted | None) -> Iterator[Entry | RepositoryError]:
        if wanted is None:
            return entries(self.reader, tree)
        return _found(self.reader, tree, sorted(wanted))


class _Level(NamedTuple):
    path: bytes
    children: Iterator[Entry | RepositoryError]
    wanted: _Wanted | None


def select(reader: Pages, root: bytes, paths: Iterable[bytes] = ()) -> Selection:
    """Return what lies at `paths`, relative to the root; everything where there are none.

    Raises NotFound where a path does not exist.  The message does not repeat it: it may reach
    somebody who may restore, but not see.
    """
    split = {tuple(part for part in path.split(b"/") if part) for path in paths}
    if not split or () in split:
        found = [entry for entry in entries(reader, root) if isinstance(entry, Entry)]
        return Selection(reader, root, None, *_totals(found))
    outer = [path for path in split if not any(path[:n] in split for n in range(1, len(path)))]
    found = [_lookup(reader, root, path) for path in outer]
    return Selection(reader, root, _wanted(outer), *_totals(found))


def entries(reader: Pages, tree: bytes) -> Iterator[Entry | RepositoryError]:
    """Yield a directory's entries in name order, and an error for each page or name that is bad."""
    pending = [(tree, 0)] if tree else []
    last = b""
    while pending:
        tree_id, level = pending.pop()
        try:
            page = _page(reader, tree_id, level)
        except RepositoryError as error:
            yield error
            continue
        for entry in page.entries:
            if entry.name <= last:  # within a page, decoding saw to it
                yield ObjectDamaged("a directory's pages hold a name twice, or out of order")
            else:
                last = entry.name
                yield entry
        pending += [(ref.id, level + 1) for ref in reversed(page.pages)]


def find(reader: Pages, tree: bytes, name: bytes) -> Entry:
    """Return the entry `name` of a directory; raise NotFound where there is none."""
    level = 0
    while tree:
        page = _page(reader, tree, level)
        level += 1
        if not page.pages:
            return _by_name(page.entries, name)
        place = bisect_right(page.pages, name, key=_first) - 1
        tree = page.pages[place].id if place >= 0 else b""
    raise _not_there()


def join(parent: bytes, name: bytes) -> bytes:
    """Return the path of `name` in `parent`, for a report; nothing opens such a path."""
    return parent + b"/" + name if parent else name


def _found(reader: Pages, tree: bytes, names: Iterable[bytes]) -> Iterator[Entry | RepositoryError]:
    for name in names:
        try:
            yield find(reader, tree, name)
        except RepositoryError as error:
            yield error


def _page(reader: Pages, tree: bytes, level: int) -> TreePage:
    if level > MAX_LEVELS:
        raise ObjectDamaged("a directory's pages lie deeper than any directory needs")
    return reader.page(tree)


def _by_name(sorted_entries: Sequence[Entry], name: bytes) -> Entry:
    place = bisect_left(sorted_entries, name, key=_name)
    if place == len(sorted_entries) or sorted_entries[place].name != name:
        raise _not_there()
    return sorted_entries[place]


def _lookup(reader: Pages, root: bytes, path: Sequence[bytes]) -> Entry:
    entry = Entry(name=b"", kind=Kind.DIRECTORY, tree=root)
    for part in path:
        if entry.kind is not Kind.DIRECTORY:
            raise _not_there()
        entry = find(reader, entry.tree, part)
    return entry


def _wanted(paths: Iterable[Sequence[bytes]]) -> _Wanted:
    """Return the paths, none of which lies below another, as nested mappings."""
    root: _Wanted = {}
    for path in paths:
        node = root
        for part in path[:-1]:
            below = node.setdefault(part, {})
            assert below is not None, "a path below a path"  # noqa: S101 - select() sees to it
            node = below
        node[path[-1]] = None
    return root


def _totals(found: Iterable[Entry]) -> tuple[int, int]:
    files = size = 0
    for entry in found:
        is_directory = entry.kind is Kind.DIRECTORY
        files += entry.files if is_directory else 1
        size += entry.bytes if is_directory else entry.size
    return files, size


def _not_there() -> NotFound:
    return NotFound(
        "a path to restore is not in this snapshot",
        hint="give paths relative to the snapshot's root, such as orthanc/ab/cd; "
        "`vitrine ls` lists them through a session",
    )
