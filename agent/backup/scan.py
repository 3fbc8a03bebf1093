"""Comparing a source with the journal: what is new, changed or gone, and which files to read.

A full scan lists every directory; a scan of dirty names looks at those alone.  Metadata, links,
special files and what vanished go into the journal at once; files with content come out in
batches, in directory order, for the pipeline.  Memory: one directory's names, one page, one batch.

An event names one of a file's hard links; the others that the journal knows are looked at too.  A
file that gets its second name is seen with both when its first is next looked at.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from agent.backup.journal import Directory, Journal
from agent.backup.listing import (
    Found,
    OpenSource,
    is_unchanged,
    links,
    list_directory,
    look_up,
    special_entry,
    xattrs,
)
from agent.backup.listing import make_entry as make_directory
from agent.backup.pages import Change, Pages, child
from agent.backup.patterns import Patterns
from agent.errors import SourceUnavailable
from agent.model.tree import Entry, Flaw, Kind

MiB = 1024 * 1024
BATCH_FILES = 512  # a thread call costs what a few small files do
BATCH_BYTES = 16 * MiB  # bounds what a cancelled run waits for
SMALL_FILE_BYTES = 16 * 1024
BREATH_NAMES = 8192  # names looked at between two chances to be cancelled: about 50 ms
APPLY_CHANGES = 2048
MAX_ONE_BY_ONE = 2000  # more dirty names in a directory: listing it costs less

log = logging.getLogger(__name__)

DirtyNames = Mapping[bytes, frozenset[bytes] | None]
"""Directories below a source → names in them that may have changed; None: all of them."""


class Work(NamedTuple):
    """Files of one directory that are to be read."""

    directory: Directory
    files: list[Found]


class Batch(NamedTuple):
    """Files to be read in one go; an empty one is a chance to be cancelled."""

    source: OpenSource
    work: list[Work]
    looked_at: int  # names compared since the batch before
    files: int
    bytes: int

    @property
    def is_small(self) -> bool:
        """Tell whether more time goes into opening its files than into their bytes."""
        return self.bytes <= self.files * SMALL_FILE_BYTES


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
        self._work: list[Work] = []
        self._waiting: dict[bytes, set[bytes] | None] = {}
        self._is_partial = False  # not everything is looked at, so links have to be followed
        self._followed: set[int] = set()  # inodes whose other names were added
        self._files = self._bytes = self._looked_at = 0

    def full(self) -> Iterator[Batch]:
        """Yield batches of what is new or changed anywhere in the source."""
        yield from self._walk(self._root)
        yield self._taken()

    def dirty(self, names: DirtyNames) -> Iterator[Batch]:
        """Yield batches of what is new or changed among `names`, and below new directories."""
        self._is_partial = True
        waiting = self._waiting
        waiting |= {path: None if some is None else set(some) for path, some in names.items()}
        for path in list(waiting):
            self._add_path(path)  # what is in a directory moves its own times
        while waiting:
            path = min(waiting)
            some = waiting.pop(path)
            directory = self._journal.directory(self._root.source, path)
            if directory is None:
                self._repair(path)
            elif self._patterns.takes_below(path):
                yield from self._look_again(directory, some)
        yield self._taken()

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
            pairs = _pairs(self._kept(directory, found), known)
            yield from self._compare(directory, fd, pairs, below, everything=everything)
        finally:
            os.close(fd)

    def _look_up(
        self, directory: Directory, names: list[bytes], below: list[bytes]
    ) -> Iterator[Batch]:
        try:
            fd = self._source.open(directory.path)
        except OSError:
            self._repair(directory.path)
            return
        try:
            found = self._kept(directory, look_up(fd, names))
            known = self._pages.find(directory.id, names)
            pairs = _pairs(found, (known[name] for name in names if name in known))
            yield from self._compare(directory, fd, pairs, below, everything=False)
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

    def _repair(self, path: bytes) -> None:
        """Have the place where a directory should be looked at: it came or went unannounced."""
        self._add_path(path)
        self._add_path(path.rpartition(b"/")[0])

    def _add_path(self, path: bytes) -> None:
        """Have a directory itself looked at, in its parent."""
        parent, _, name = path.rpartition(b"/")
        if name:
            self._add_name(parent, name)

    def _add_name(self, directory: bytes, name: bytes) -> None:
        names = self._waiting.setdefault(directory, set())
        if names is not None:
            names.add(name)

    def _add_links_of(self, found: Found | None, entry: Entry | None) -> None:
        """Have a file's other names looked at: the event told of one of them only."""
        inodes = set()
        if entry is not None and entry.links > 1:
            inodes.add(entry.inode)
        if found is not None and links(found.stat, self._source.device) > 1:
            inodes.add(found.stat.st_ino)
        self._add_links(inodes)

    def _add_links(self, inodes: set[int]) -> None:
        for inode in inodes - self._followed if self._is_partial else ():
            self._followed.add(inode)
            for path, name in self._pages.other_names(self._root.source, inode):
                self._add_name(path, name)

    # -- comparing ------------------------------------------------------------------------------

    def _compare(
        self,
        directory: Directory,
        fd: int,
        pairs: Iterable[tuple[Found | None, Entry | None]],
        below: list[bytes],
        *,
        everything: bool,
    ) -> Iterator[Batch]:
        """Bring the journal up to date, collect files to read, and directories to go `below`."""
        changes: list[Change] = []
        for found, entry in pairs:
            self._looked_at += 1
            if found is not None and _is_below(found, entry, everything=everything):
                below.append(found.name)
            if not _is_same(found, entry):
                self._differs(directory, fd, found, entry, changes)
                self._add_links_of(found, entry)
            if self._is_due():
                yield self._taken()
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
            self._to_read(directory, found)
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
            path = child(directory, entry.name)
            inodes = self._pages.linked_below(directory.source, path) if self._is_partial else set()
            self._journal.remove_tree(directory.source, path)
            self._add_links(inodes)

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

    # -- batches --------------------------------------------------------------------------------

    def _to_read(self, directory: Directory, found: Found) -> None:
        if not self._work or self._work[-1].directory.id != directory.id:
            self._work.append(Work(directory, []))
        self._work[-1].files.append(found)
        self._files += 1
        self._bytes += found.stat.st_size

    def _is_due(self) -> bool:
        return (
            self._files >= BATCH_FILES
            or self._bytes >= BATCH_BYTES
            or self._looked_at >= BREATH_NAMES
        )

    def _taken(self) -> Batch:
        batch = Batch(self._source, self._work, self._looked_at, self._files, self._bytes)
        self._work = []
        self._files = self._bytes = self._looked_at = 0
        return batch


def source_entry(source: OpenSource, label: bytes, path: bytes) -> Entry:
    """Return the entry of a source in a snapshot's root page, without its tree."""
    entry = make_directory(label, source.stat, source.device, xattrs=xattrs(source.fd))
    return msgspec.structs.replace(entry, origin=path)


def _pairs(
    found: Iterable[Found], known: Iterable[Entry]
) -> Iterator[tuple[Found | None, Entry | None]]:
    """Yield what is found and what is known, side by side; both come in name order."""
    entries = iter(known)
    entry = next(entries, None)
    for one in found:
        while entry is not None and entry.name < one.name:
            yield None, entry
            entry = next(entries, None)
        if entry is not None and entry.name == one.name:
            yield one, entry
            entry = next(entries, None)
        else:
            yield one, None
    while entry is not None:
        yield None, entry
        entry = next(entries, None)


def _is_same(found: Found | None, entry: Entry | None) -> bool:
    """Tell whether an entry, whole when it was made, still describes what is found."""
    return (
        found is not None
        and entry is not None
        and is_unchanged(entry, found.stat)
        and entry.flaw is Flaw.NONE
    )


def _is_below(found: Found, entry: Entry | None, *, everything: bool) -> bool:
    """Tell whether to go on below: a directory, of all or of those that are not what was known."""
    if not stat.S_ISDIR(found.stat.st_mode):
        return False
    known = entry is not None and entry.kind is Kind.DIRECTORY
    return everything or not known or (entry is not None and entry.inode != found.stat.st_ino)
