"""Going through a source: every directory, or those that dirty names are in, beside the journal.

What differs goes into the journal at once (agent.backup.visit); files with content come out in
batches, in directory order, for the pipeline.  Memory: one directory's names, a few pages, one
batch.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing

import msgspec

from agent.backup.batch import Batch, Gathering
from agent.backup.journal import Directory, Journal
from agent.backup.listing import Found, OpenSource, Siblings, list_directory, look_up
from agent.backup.lookahead import Lookahead
from agent.backup.pages import Pages, child
from agent.backup.patterns import Patterns
from agent.backup.readpages import Page
from agent.backup.visit import Visit, Visitor
from agent.backup.waiting import DirtyNames, Waiting
from agent.errors import SourceUnavailable
from agent.model.tree import Flaw

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
        self._root = root
        self._patterns = patterns
        self._gathering = Gathering(source)
        self._visitor = Visitor(pages, source, self._gathering)
        self._siblings = Siblings(source)
        self._lookahead = Lookahead(pages, root.source)

    def full(self) -> Iterator[Batch]:
        """Yield batches of what is new or changed anywhere in the source."""
        with closing(self._siblings):
            yield from self._walk(self._root)
            yield self._gathering.taken()

    def dirty(self, names: DirtyNames) -> Iterator[Batch]:
        """Yield batches of what is new or changed among `names`, and below new directories."""
        waiting = self._visitor.waiting = Waiting(names, self._pages, self._root)
        with closing(self._siblings):
            while waiting:
                path, some = waiting.pop()
                directory = self._journal.directory(self._root.source, path)
                if directory is None:
                    waiting.repair(path)
                elif self._patterns.takes_below(path):
                    yield from self._look_again(directory, some, waiting)
            yield self._gathering.taken()

    # -- walking --------------------------------------------------------------------------------

    def _walk(self, top: Directory, first: Page | None = None) -> Iterator[Batch]:
        """Scan `top` and all that is below it, in the order of names."""
        stack = [(top, (yield from self._list(top, first, everything=True)))]
        while stack:
            parent, below = stack[-1]
            if not below:
                stack.pop()
                continue
            directory, first = self._enter(parent, below.pop())
            stack.append((directory, (yield from self._list(directory, first, everything=True))))

    def _enter(self, parent: Directory, name: bytes) -> tuple[Directory, Page | None]:
        path = child(parent, name)
        known = self._lookahead.take(path)
        return known or (self._journal.add_directory(parent.source, path, parent), None)

    def _look_again(
        self, directory: Directory, names: set[bytes] | None, waiting: Waiting
    ) -> Iterator[Batch]:
        """Compare some names of a directory, or all of them, and walk what is new below it."""
        if names is None or len(names) > MAX_ONE_BY_ONE:
            below = yield from self._list(directory, None, everything=False)
        else:
            below = yield from self._look_up(directory, sorted(names), waiting)
        while below:
            yield from self._walk(*self._enter(directory, below.pop()))

    def _list(
        self, directory: Directory, first: Page | None, *, everything: bool
    ) -> Generator[Batch, None, list[bytes]]:
        """Compare all of a directory; return the names to go on below, the first one last."""
        try:
            fd = self._siblings.open(directory.path)
        except OSError as error:
            self._unlisted(directory, error)
            return []
        try:
            found = self._listed(directory, fd)
            if found is None:
                return []
            visit = Visit(directory, fd, everything)
            yield from self._visitor.compare(visit, found, self._pages.runs(directory.id, first))
        finally:
            os.close(fd)
        return visit.below[::-1]

    def _look_up(
        self, directory: Directory, names: list[bytes], waiting: Waiting
    ) -> Generator[Batch, None, list[bytes]]:
        try:
            fd = self._siblings.open(directory.path)
        except OSError:
            waiting.repair(directory.path)
            return []
        try:
            found = self._kept(directory, look_up(fd, names))
            known = self._pages.find(directory.id, names)
            visit = Visit(directory, fd, everything=False)
            run = [known[name] for name in names if name in known]
            yield from self._visitor.compare(visit, found, [run] if run else [])
        finally:
            os.close(fd)
        return visit.below[::-1]

    def _listed(self, directory: Directory, fd: int) -> list[Found] | None:
        """Return what there is to protect in a directory, or None where it cannot be listed."""
        try:
            return self._kept(directory, list_directory(fd))
        except OSError as error:
            self._unlisted(directory, error)
            return None

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
