"""A directory's leaf pages in the journal, found and read in name order."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from agent.backup.journal import Directory, Journal, below
from agent.model.tree import Entry, decode_page

_PAGE = (
    "pages.row, pages.first, pages.crc, pages.body, (SELECT min(later.first) FROM pages AS later"
    " WHERE later.dir = pages.dir AND later.first > pages.first)"
)
_COLUMNS = f"SELECT {_PAGE} FROM pages "  # noqa: S608 - constant
_SELECT = _COLUMNS + "WHERE dir = ? "
_DIRECTORIES = (
    "SELECT dirs.id, source, path, parent, depth, root, dirs.files, dirs.bytes,"  # noqa: S608 - constant
    f" {_PAGE} FROM dirs LEFT JOIN pages ON pages.row ="
    " (SELECT row FROM pages AS any WHERE any.dir = dirs.id ORDER BY any.first LIMIT 1)"
    " WHERE source = ? AND path >= ? ORDER BY path LIMIT ?"
)
_DIRECTORY_COLUMNS = len(Directory._fields)

Row = tuple[Any, ...]


class Page(NamedTuple):
    """A leaf page as it lies in the journal."""

    row: int
    first: bytes
    body: bytes
    entries: tuple[Entry, ...]
    next_first: bytes | None  # where the page behind it begins; None: it is the last


class PageReader:
    """Reads leaf pages of one journal."""

    def __init__(self, journal: Journal) -> None:
        """Take the journal that holds the pages."""
        self._journal = journal
        self._generation = 0  # counts changes: a reader that sees none needs no second look

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield a directory's entries in name order, whatever is changed meanwhile behind it."""
        return itertools.chain.from_iterable(self.runs(directory))

    def runs(self, directory: int, first: Page | None = None) -> Iterator[tuple[Entry, ...]]:
        """Yield the same, a page's entries at a time; `first` is the first page, if it is known."""
        page = first or self._first(directory)
        last = b""
        while page is not None:
            generation = self._generation
            entries = page.entries
            if entries[0].name <= last:
                entries = tuple(entry for entry in entries if entry.name > last)
            yield entries
            last = max(last, page.entries[-1].name)
            page = self._after(directory, page, last, moved=generation != self._generation)

    def directories_from(self, source: int, path: bytes, count: int) -> list[Row]:
        """Return up to `count` directories from `path` on, in path order, for `from_row`."""
        return self._journal.rows(_DIRECTORIES, source, path, count)

    def from_row(self, row: Row) -> tuple[Directory, Page | None]:
        """Return the directory that a row holds, and its first page; None: it is empty."""
        directory, page = row[:_DIRECTORY_COLUMNS], row[_DIRECTORY_COLUMNS:]
        return Directory._make(directory), None if page[0] is None else self._read(page)

    def at(self, row: int) -> Page | None:
        """Return the page at a row of the table."""
        return self._page(_COLUMNS + "WHERE row = ?", row)

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
            signed(inode),
            source,
        ):
            found = self.at(page)
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
        return None if found is None else self._read(found)

    def _read(self, columns: Row) -> Page:
        row, first, crc, body, after = columns
        entries = decode_page(self._journal.verified(body, crc)).entries
        return Page(row, first, body, entries, after)


def signed(inode: int) -> int:
    """Return the 64 bits of an inode number as SQLite keeps them."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode
