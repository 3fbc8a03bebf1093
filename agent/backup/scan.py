"""Comparing a source with the journal: what is new, changed or gone, and which files to read.

A full scan lists every directory; a scan of dirty names looks at those alone.  Metadata, links,
special files and what vanished go into the journal at once; files with content come out in
batches, in directory order, for the pipeline.  Memory: one directory's names, one page, one batch.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

import msgspec

from agent.backup.batch import Batch, Gathering
from agent.backup.compare import Pair, is_below, is_same, pairs
from agent.backup.journal import Directory, Journal
from agent.backup.leaf import Change
from agent.backup.listing import Found, OpenSource, links, list_directory, look_up, special_entry
from agent.backup.pages import Pages, child
from agent.backup.patterns import Patterns
from agent.backup.waiting import DirtyNames, Waiting
from agent.errors import SourceUnavailable
from agent.model.tree import Entry, Flaw, Kind

APPLY_CHANGES = 2048
MAX_ONE_BY_ONE = 2000  # more dirty names in a directory: listing it costs less


class Scan:
    """One scan of one open source."""

    def __init__(
        self,
        journal: Journal,
        pages: Pages,
        source: OpenSource,
        root: Directory,
        patterns: Patterns,
    ) -> None:
        """Take the source and its directory `root` in the journal."""
        self._journal = journal
        self._pages = pages
        self._source = source
        self._root = root
        self._patterns = patterns
        self._gathering = Gathering(source)
        self._waiting: Waiting | None = None  # where not everything is looked at

    def full(self) -> Iterator[Batch]:
        """Yield batches of what is new or changed anywhere in the source."""
        yield from self._walk(self._root)
        yield self._gathering.taken()

    def dirty(self, names: DirtyNames) -> Iterator[Batch]:
        """Yield batches of what is new or changed among `names`, and below new directories."""
        waiting = self._waiting = Waiting(names, self._pages, self._root)
        while waiting:
            path, some = waiting.pop()
            directory = self._journal.directory(self._root.source, path)
            if directory is None:
                waiting.repair(path)
            elif self._patterns.takes_below(path):
                yield from self._look_again(directory, some)
        yield self._gathering.taken()

    # -- walking --------------------------------------------------------------------------------

    def _walk(self, top: Directory) -> Iterator[Batch]:
        """Scan `top` and all that is below it."""
        below: list[bytes] = []
        yield from self._list(top, below, everything=True)
        stack = [(top, below)]
        while stack:
            parent, names = stack[-1]
            if not names:
                stack.pop()
                continue
            directory = self._enter(parent, names.pop())
            below = []
            yield from self._list(directory, below, everything=True)
            stack.append((directory, below))

    def _enter(self, parent: Directory, name: bytes) -> Directory:
        path = child(parent, name)
        known = self._journal.directory(parent.source, path)
        return known or self._journal.add_directory(parent.source, path, parent)

    def _look_again(self, directory: Directory, names: set[bytes] | None) -> Iterator[Batch]:
        """Compare some names of a directory, or all of them, and walk what is new below it."""
        below: list[bytes] = []
        if names is None or len(names) > MAX_ONE_BY_ONE:
            yield from self._list(directory, below, everything=False)
        else:
            yield from self._look_up(directory, sorted(names), below)
        for name in below:
            yield from self._walk(self._enter(directory, name))

    def _list(
        self, directory: Directory, below: list[bytes], *, everything: bool
    ) -> Iterator[Batch]:
        try:
            fd = self._source.open(directory.path)
        except OSError as error:
            self._unlisted(directory, error)
            return
        try:
            try:
                found = list_directory(fd)
            except OSError as error:
                self._unlisted(directory, error)
                return
            known = self._pages.entries(directory.id)
            seen = pairs(self._kept(directory, found), known)
            yield from self._compare(directory, fd, seen, below, everything=everything)
        finally:
            os.close(fd)

    def _look_up(
        self, directory: Directory, names: list[bytes], below: list[bytes]
    ) -> Iterator[Batch]:
        try:
            fd = self._source.open(directory.path)
        except OSError:
            if self._waiting is not None:
                self._waiting.repair(directory.path)
            return
        try:
            found = self._kept(directory, look_up(fd, names))
            known = self._pages.find(directory.id, names)
            seen = pairs(found, (known[name] for name in names if name in known))
            yield from self._compare(directory, fd, seen, below, everything=False)
        finally:
            os.close(fd)

    def _kept(self, directory: Directory, found: list[Found]) -> list[Found]:
        if self._patterns.takes_all:
            return found
        return [
            one
            for one in found
            if self._patterns.takes(
                child(directory, one.name), is_directory=stat.S_ISDIR(one.stat.st_mode)
            )
        ]

    # -- comparing ------------------------------------------------------------------------------

    def _compare(
        self,
        directory: Directory,
        fd: int,
        seen: Iterable[Pair],
        below: list[bytes],
        *,
        everything: bool,
    ) -> Iterator[Batch]:
        """Bring the journal up to date, collect files to read, and directories to go `below`."""
        changes: list[Change] = []
        gathering = self._gathering
        for found, entry in seen:
            gathering.looked_at += 1
            if found is not None and is_below(found, entry, everything=everything):
                below.append(found.name)
            if not is_same(found, entry):
                self._differs(directory, fd, found, entry, changes)
                self._follow_links(found, entry)
            if gathering.is_due:
                yield gathering.taken()
            if len(changes) >= APPLY_CHANGES:
                self._pages.apply(directory.id, changes)
                changes.clear()
        self._pages.apply(directory.id, changes)

    def _differs(
        self,
        directory: Directory,
        fd: int,
        found: Found | None,
        entry: Entry | None,
        changes: list[Change],
    ) -> None:
        """Note what became of a name: a change at once, or a file to read."""
        if found is None:
            if entry is not None:
                self._drop_below(directory, entry)
                changes.append((entry.name, None))
            return
        if not stat.S_ISDIR(found.stat.st_mode):
            self._drop_below(directory, entry)
        if stat.S_ISREG(found.stat.st_mode):
            self._gathering.add(directory, found)
            return
        try:
            new = special_entry(fd, found, self._source.device)
        except OSError:  # gone, or another since: its own event, or the next scan, will tell
            return
        if entry is not None and entry.kind is new.kind is Kind.DIRECTORY:
            new = msgspec.structs.replace(
                new, tree=entry.tree, files=entry.files, bytes=entry.bytes
            )
        changes.append((found.name, new))

    def _drop_below(self, directory: Directory, entry: Entry | None) -> None:
        if entry is not None and entry.kind is Kind.DIRECTORY:
            path, waiting = child(directory, entry.name), self._waiting
            inodes = (
                self._pages.linked_below(directory.source, path) if waiting is not None else set()
            )
            self._pages.remove_tree(directory.source, path)
            if waiting is not None:
                waiting.add_links(inodes)

    def _follow_links(self, found: Found | None, entry: Entry | None) -> None:
        """Have the other names of a file that changed looked at, where not everything is."""
        if self._waiting is None:
            return
        inodes = set()
        if entry is not None and entry.links > 1:
            inodes.add(entry.inode)
        if found is not None and links(found.stat, self._source.device) > 1:
            inodes.add(found.stat.st_ino)
        self._waiting.add_links(inodes)

    def _unlisted(self, directory: Directory, error: OSError) -> None:
        """Mark a directory that cannot be listed; what was last known of it is carried on."""
        if not directory.path:
            raise SourceUnavailable(
                f"a source cannot be listed: {error.strerror}", hint="mend its file system"
            )
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return  # it went meanwhile: its parent's event, or the next scan, will tell
        name = directory.path.rsplit(b"/", 1)[-1]
        entry = self._pages.find(directory.parent, [name]).get(name)
        if entry is not None:
            marked = msgspec.structs.replace(entry, flaw=Flaw.UNLISTED)
            self._pages.apply(directory.parent, [(name, marked)])
