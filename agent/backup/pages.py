"""A directory's leaf pages in the journal: read in order, changed in place, cut canonically.

Whatever the order of changes, the pages are those that `cut_entries` gives for the whole
directory, so that the tree does not depend on its history.  That holds because a cut depends only
on the names since the cut before it: after a change it is enough to cut again from the start of
the page until a new cut meets an old one.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.backup.journal import Directory, Journal, below
from agent.backup.leaf import Change, Totals, counts, end_below, is_cut, merged, with_totals
from agent.model.tree import Entry, TreePage, decode_page, encode_page
from agent.repository.trees import cut_entries

_COLUMNS = (
    "SELECT row, first, crc, body, (SELECT min(later.first) FROM pages AS later"
    " WHERE later.dir = pages.dir AND later.first > pages.first) FROM pages "
)
_SELECT = _COLUMNS + "WHERE dir = ? "


class Page(NamedTuple):
    """A leaf page as it lies in the journal."""

    row: int
    first: bytes
    body: bytes
    entries: tuple[Entry, ...]
    next_first: bytes | None  # where the page behind it begins; None: it is the last


class Observer(Protocol):
    """Is told what becomes of entries, beside what they were."""

    def note(self, directory: int, old: Sequence[Entry], changes: Sequence[Change]) -> None:
        """See changes, in name order, that are about to be made to a page of a directory."""
        ...

    def dropped(self, directory: int, old: Sequence[Entry]) -> None:
        """See entries of a directory that is about to be dropped."""
        ...


class Pages:
    """Reads and changes leaf pages of one journal."""

    def __init__(self, journal: Journal) -> None:
        """Take the journal that holds the pages."""
        self._journal = journal
        self.observer: Observer | None = None
        self._generation = 0  # counts changes: a reader that sees none needs no second look

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield a directory's entries in name order, whatever is changed meanwhile behind it."""
        page = self._first(directory)
        last = b""
        while page is not None:
            generation = self._generation
            for entry in page.entries:
                if entry.name > last:
                    yield entry
            last = max(last, page.entries[-1].name)
            page = self._after(directory, page, last, moved=generation != self._generation)

    def find(self, directory: int, names: Iterable[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those of `names`, sorted, that the directory has."""
        found: dict[bytes, Entry] = {}
        page: Page | None = None
        by_name: dict[bytes, Entry] = {}
        for name in names:
            if page is None or not page.first <= name <= page.entries[-1].name:
                page = self._covering(directory, name)
                by_name = {entry.name: entry for entry in page.entries} if page else {}
            if name in by_name:
                found[name] = by_name[name]
        return found

    def other_names(self, source: int, inode: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield (directory's path, name) of every known hard link to a file of `source`."""
        for page, path in self._journal.rows(
            "SELECT page, path FROM links JOIN pages ON page = row JOIN dirs ON dir = dirs.id"
            " WHERE inode = ? AND source = ?",
            _signed(inode),
            source,
        ):
            found = self._page(_COLUMNS + "WHERE row = ?", page)
            for entry in found.entries if found else ():
                if entry.inode == inode and entry.links > 1:
                    yield path, entry.name

    def linked_below(self, source: int, path: bytes) -> set[int]:
        """Return the inodes of the files below `path` that have several names."""
        found = self._journal.rows(
            "SELECT DISTINCT inode FROM links JOIN pages ON page = row JOIN dirs ON dir = dirs.id"
            " WHERE source = ? AND (path = ? OR (path > ? AND path < ?))",
            source,
            path,
            *below(path),
        )
        return {inode % (1 << 64) for (inode,) in found}

    def apply(self, directory: int, changes: Sequence[Change]) -> None:
        """Change a directory by `changes`, sorted, each name once; its tree is then made anew."""
        at = 0
        changed = False
        while at < len(changes):
            at, wrote = self._apply_run(directory, changes, at)
            changed = changed or wrote
        if changed:
            self._generation += 1
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
                page = self._page(_COLUMNS + "WHERE row = ?", row)
                self.observer.dropped(directory, page.entries if page else ())
        self._journal.remove_tree(source, path)

    def set_children(self, directory: int, totals: Mapping[bytes, Totals]) -> None:
        """Write the new totals of subdirectories, by name, into their entries.

        Cuts do not depend on what this changes, so pages stay where they are.
        """
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
                self._delete(page)
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
        for inode in {_signed(entry.inode) for entry in entries if entry.links > 1}:
            self._journal.change("INSERT INTO links VALUES (?, ?)", cursor.lastrowid, inode)

    def _delete(self, page: Page) -> None:
        self._journal.change("DELETE FROM pages WHERE row = ?", page.row)
        if any(entry.links > 1 for entry in page.entries):
            self._journal.change("DELETE FROM links WHERE page = ?", page.row)

    def _write(self, directory: int, page: Page, entries: tuple[Entry, ...]) -> None:
        self._replace(directory, [page], [list(entries)])

    # -- finding pages --------------------------------------------------------------------------

    def _first(self, directory: int) -> Page | None:
        return self._page(_SELECT + "ORDER BY first LIMIT 1", directory)

    def _covering(self, directory: int, name: bytes) -> Page | None:
        """Return the page that `name` is in, or would be put into."""
        found = self._page(_SELECT + "AND first <= ? ORDER BY first DESC LIMIT 1", directory, name)
        return found or self._first(directory)

    def _after(self, directory: int, page: Page, last: bytes, *, moved: bool) -> Page | None:
        """Return the page that holds what follows the name `last`."""
        if not moved and page.next_first is None:
            return None
        if moved:
            covering = self._covering(directory, last)
            if covering is not None and covering.entries[-1].name > last:
                return covering
        after = last if moved else page.first
        return self._page(_SELECT + "AND first > ? ORDER BY first LIMIT 1", directory, after)

    def _page(self, sql: str, *values: int | bytes) -> Page | None:
        found = self._journal.row(sql, *values)
        if found is None:
            return None
        row, first, crc, body, after = found
        entries = decode_page(self._journal.verified(body, crc)).entries
        return Page(row, first, body, entries, after)


def child(directory: Directory, name: bytes) -> bytes:
    """Return the path, below the source, of `name` in `directory`."""
    return directory.path + b"/" + name if directory.path else name


def _signed(inode: int) -> int:
    """Return the 64 bits of an inode number as SQLite keeps them."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode
