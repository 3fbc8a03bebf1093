"""One directory beside what the journal knows of it: what differs, and what follows from that.

Metadata, links, special files and what vanished go into the journal; files with content are
gathered to be read.  Most directories are as they were: what is known of them is compared with
what is found a page at a time, and only where that differs name by name.
"""

import operator
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from agent.backup.batch import Batch, Gathering
from agent.backup.compare import Pair, is_below, is_same, is_same_run, pairs
from agent.backup.journal import Directory
from agent.backup.leaf import Change
from agent.backup.listing import Found, OpenSource, links, special_entry
from agent.backup.pages import Pages, child
from agent.backup.waiting import Waiting
from agent.model.tree import Entry, Kind

APPLY_CHANGES = 2048
_NAME = operator.itemgetter(0)  # of a Found


class Visit:
    """One look at a directory, open: what came of it so far."""

    __slots__ = ("below", "changes", "directory", "everything", "fd")

    def __init__(self, directory: Directory, fd: int, everything: bool) -> None:
        """Take whether to go on below every directory, or only where it is not what was known."""
        self.directory = directory
        self.fd = fd
        self.everything = everything
        self.below: list[bytes] = []  # names of directories to go on in
        self.changes: list[Change] = []


class Visitor:
    """Compares directories of one source.  `waiting` is set where not everything is looked at."""

    def __init__(self, pages: Pages, source: OpenSource, gathering: Gathering) -> None:
        """Take where entries lie, and where files to read are gathered."""
        self._pages = pages
        self._source = source
        self._gathering = gathering
        self.waiting: Waiting | None = None

    def compare(
        self, visit: Visit, found: list[Found], runs: Iterable[Sequence[Entry]]
    ) -> Iterator[Batch]:
        """Bring the journal up to date; yield batches as they fill.

        What is `found`, and what is known, in runs that are not empty, is in name order.
        """
        at = 0
        for run in runs:
            end = at + len(run)
            if is_same_run(found[at:end], run):
                self._note_same(visit, run)
            else:
                end = bisect_right(found, run[-1].name, at, key=_NAME)
                yield from self._compare_each(visit, pairs(found[at:end], run))
            at = end
            if self._gathering.is_due:
                yield self._gathering.taken()
        yield from self._compare_each(visit, pairs(found[at:], ()))
        self._pages.apply(visit.directory.id, visit.changes)

    def _note_same(self, visit: Visit, run: Sequence[Entry]) -> None:
        self._gathering.looked_at += len(run)
        if visit.everything:
            visit.below += [entry.name for entry in run if entry.kind is Kind.DIRECTORY]

    def _compare_each(self, visit: Visit, seen: Iterable[Pair]) -> Iterator[Batch]:
        gathering = self._gathering
        for found, entry in seen:
            gathering.looked_at += 1
            if found is not None and is_below(found, entry, everything=visit.everything):
                visit.below.append(found.name)
            if not is_same(found, entry):
                self._differs(visit, found, entry)
                self._follow_links(found, entry)
            if gathering.is_due:
                yield gathering.taken()
            if len(visit.changes) >= APPLY_CHANGES:
                self._pages.apply(visit.directory.id, visit.changes)
                visit.changes.clear()

    def _differs(self, visit: Visit, found: Found | None, entry: Entry | None) -> None:
        """Note what became of a name: a change at once, or a file to read."""
        if found is None:
            if entry is not None:
                self._drop_below(visit.directory, entry)
                visit.changes.append((entry.name, None))
            return
        if not stat.S_ISDIR(found.stat.st_mode):
            self._drop_below(visit.directory, entry)
        if stat.S_ISREG(found.stat.st_mode):
            self._gathering.add(visit.directory, found)
            return
        try:
            new = special_entry(visit.fd, found, self._source.device)
        except OSError:  # gone, or another since: its own event, or the next scan, will tell
            return
        if entry is not None and entry.kind is new.kind is Kind.DIRECTORY:
            new = msgspec.structs.replace(
                new, tree=entry.tree, files=entry.files, bytes=entry.bytes
            )
        visit.changes.append((found.name, new))

    def _drop_below(self, directory: Directory, entry: Entry | None) -> None:
        if entry is not None and entry.kind is Kind.DIRECTORY:
            path, waiting = child(directory, entry.name), self.waiting
            inodes = (
                self._pages.linked_below(directory.source, path) if waiting is not None else set()
            )
            self._pages.remove_tree(directory.source, path)
            if waiting is not None:
                waiting.add_links(inodes)

    def _follow_links(self, found: Found | None, entry: Entry | None) -> None:
        """Have the other names of a file that changed looked at, where not everything is."""
        if self.waiting is None:
            return
        inodes = set()
        if entry is not None and entry.links > 1:
            inodes.add(entry.inode)
        if found is not None and links(found.stat, self._source.device) > 1:
            inodes.add(found.stat.st_ino)
        self.waiting.add_links(inodes)
