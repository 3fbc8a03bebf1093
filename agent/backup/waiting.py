"""The names that a scan of a part has yet to look at: those that events told of, and what follows.

An event names one of a file's hard links; the others that the journal knows are looked at too.  A
file that gets its second name is seen with both when its first is next looked at.
"""

from collections.abc import Mapping

from agent.backup.journal import Directory
from agent.backup.pages import Pages

DirtyNames = Mapping[bytes, frozenset[bytes] | None]
"""Directories below a source → names in them that may have changed; None: all of them."""


class Waiting:
    """Names by directory; directories come out in path order, so one above before those below."""

    def __init__(self, names: DirtyNames, pages: Pages, root: Directory) -> None:
        """Start with `names` below the source's directory `root`."""
        self._pages = pages
        self._source = root.source
        self._names = {path: None if some is None else set(some) for path, some in names.items()}
        self._followed: set[int] = set()  # inodes whose other names were added
        for path in list(self._names):
            self.add_path(path)  # what is in a directory moves its own times

    def __bool__(self) -> bool:
        """Tell whether any are left."""
        return bool(self._names)

    def pop(self) -> tuple[bytes, set[bytes] | None]:
        """Return the first directory, and the names in it or None for all; they wait no longer."""
        path = min(self._names)
        return path, self._names.pop(path)

    def repair(self, path: bytes) -> None:
        """Have the place where a directory should be looked at: it came or went unannounced."""
        self.add_path(path)
        self.add_path(path.rpartition(b"/")[0])

    def add_path(self, path: bytes) -> None:
        """Have a directory itself looked at, in its parent."""
        parent, _, name = path.rpartition(b"/")
        if name:
            self._add(parent, name)

    def add_links(self, inodes: set[int]) -> None:
        """Have all known names of some files looked at: an event told of one of them only."""
        for inode in inodes - self._followed:
            self._followed.add(inode)
            for path, name in self._pages.other_names(self._source, inode):
                self._add(path, name)

    def _add(self, directory: bytes, name: bytes) -> None:
        names = self._names.setdefault(directory, set())
        if names is not None:
            names.add(name)
