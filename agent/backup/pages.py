"""A directory's leaf pages in the journal: changed in place, cut canonically.

Whatever the order of changes, the pages are those that `cut_entries` gives for the whole
directory, so that the tree does not depend on its history.  That holds because a cut depends only
on the names since the cut before it: after a change it is enough to cut again from the start of
the page until a new cut meets an old one.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agent.backup.journal import Directory, Journal, below
from agent.backup.leaf import Change, Totals, counts, end_below, is_cut, merged, with_totals
from agent.backup.readpages import Page, PageReader, signed
from agent.model.tree import Entry, TreePage, encode_page
from agent.repository.trees import cut_entries


class Observer(Protocol):
    """Is told what becomes of entries, beside what they were."""

    def note(self, directory: int, old: Sequence[Entry], changes: Sequence[Change]) -> None:
        """See changes, in name order, that are about to be made to a page of a directory."""
        ...

    def dropped(self, directory: int, old: Sequence[Entry]) -> None:
        """See entries of a directory that is about to be dropped."""
        ...


class Pages(PageReader):
    """Reads and changes leaf pages of one journal."""

    def __init__(self, journal: Journal) -> None:
        """Take the journal that holds the pages."""
        super().__init__(journal)
        self.observer: Observer | None = None
        # hears which directory's pages change; None: some directories are dropped
        self.on_change: Callable[[int | None], None] = lambda _: None

    def apply(self, directory: int, changes: Sequence[Change]) -> None:
        """Change a directory by `changes`, sorted, each name once; its tree is then made anew."""
        at = 0
        changed = False
        while at < len(changes):
            at, wrote = self._apply_run(directory, changes, at)
            changed = changed or wrote
        if changed:
            self._generation += 1
            self.on_change(directory)
            self._journal.change("UPDATE dirs SET root = NULL WHERE id = ?", directory)

    def remove_tree(self, source: int, path: bytes) -> None:
        """Drop a directory and everything below it; its parent's entry is the caller's to drop."""
        if self.observer is not None:
            for row, directory in self._journal.rows(
                "SELECT row, dirs.id FROM pages JOIN dirs ON dir = dirs.id"
                " WHERE source = ? AND (path = ? OR (path > ? AND path < ?))",
                source,
                path,
                *below(path),
            ):
                page = self.at(row)
                self.observer.dropped(directory, page.entries if page else ())
        self.on_change(None)
        self._journal.remove_tree(source, path)

    def set_children(self, directory: int, totals: Mapping[bytes, Totals]) -> None:
        """Write the new totals of subdirectories, by name, into their entries.

        Cuts do not depend on what this changes, so pages stay where they are.
        """
        self.on_change(directory)
        waiting = sorted(totals)
        while waiting:
            page = self._covering(directory, waiting[0])
            if page is None:
                raise self._journal.failed_verification()
            entries = tuple(with_totals(entry, totals) for entry in page.entries)
            self._write(directory, page, entries)
            last = page.entries[-1].name
            rest = [name for name in waiting if name > last]
            if len(rest) == len(waiting):
                raise self._journal.failed_verification()
            waiting = rest
        self._journal.change("UPDATE dirs SET root = NULL WHERE id = ?", directory)

    # -- one run of pages -----------------------------------------------------------------------

    def _apply_run(self, directory: int, changes: Sequence[Change], at: int) -> tuple[int, bool]:
        """Apply changes from `at` on until a new cut meets an old one; return where that was."""
        page = self._covering(directory, changes[at][0])
        old: list[Page] = []
        closed: list[list[Entry]] = []
        open_: list[Entry] = []
        while True:
            upper = page.next_first if page else None
            end = end_below(changes, at, upper)
            if page is not None:
                old.append(page)
            known = page.entries if page else ()
            if self.observer is not None and end > at:
                self.observer.note(directory, known, changes[at:end])
            here = merged(known, changes[at:end])
            at = end
            closed += cut_entries(open_ + here)
            if upper is None or not closed or is_cut(closed[-1]):
                return at, self._replace(directory, old, closed)
            open_ = closed.pop()
            page = self._covering(directory, upper)

    def _replace(self, directory: int, old: list[Page], new: list[list[Entry]]) -> bool:
        """Put `new` pages in place of `old` ones; tell whether anything differs."""
        kept = {page.first: page for page in old}
        differs = False
        for entries in new:
            page = kept.pop(entries[0].name, None)
            body = encode_page(TreePage(entries=tuple(entries)))
            if page is not None and page.body == body:
                continue
            differs = True
            if page is not None:
                self._update(page, entries, body)
            else:
                self._insert(directory, entries, body)
        for page in kept.values():
            differs = True
            self._delete(page)
        return differs

    def _insert(self, directory: int, entries: Sequence[Entry], body: bytes) -> None:
        cursor = self._journal.change(
            "INSERT INTO pages(dir, first, files, bytes, changed, unreadable, crc, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            directory,
            entries[0].name,
            *counts(entries),
            zlib.crc32(body),
            body,
        )
        self._note_links(int(cursor.lastrowid or 0), entries)

    def _update(self, page: Page, entries: Sequence[Entry], body: bytes) -> None:
        """Put `entries`, of the same first name, in place of a page's."""
        self._journal.change(
            "UPDATE pages SET id = NULL, files = ?, bytes = ?, changed = ?, unreadable = ?,"
            " crc = ?, body = ? WHERE row = ?",
            *counts(entries),
            zlib.crc32(body),
            body,
            page.row,
        )
        self._forget_links(page)
        self._note_links(page.row, entries)

    def _delete(self, page: Page) -> None:
        self._journal.change("DELETE FROM pages WHERE row = ?", page.row)
        self._forget_links(page)

    def _note_links(self, row: int, entries: Sequence[Entry]) -> None:
        for inode in {signed(entry.inode) for entry in entries if entry.links > 1}:
            self._journal.change("INSERT INTO links VALUES (?, ?)", row, inode)

    def _forget_links(self, page: Page) -> None:
        if any(entry.links > 1 for entry in page.entries):
            self._journal.change("DELETE FROM links WHERE page = ?", page.row)

    def _write(self, directory: int, page: Page, entries: tuple[Entry, ...]) -> None:
        self._replace(directory, [page], [list(entries)])


def child(directory: Directory, name: bytes) -> bytes:
    """Return the path, below the source, of `name` in `directory`."""
    return directory.path + b"/" + name if directory.path else name
