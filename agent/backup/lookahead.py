"""What the journal knows of a source's directories, read ahead in the order of their paths.

A full scan asks for each directory and its first page: one query for many costs a fraction of two
for each.  Whatever is written to the journal makes what was read worthless, and the next reading
short.  Memory: `MOST` pages.
"""

from typing import Final

from agent.backup.journal import Directory, Journal
from agent.backup.readpages import Page, PageReader, Row

MOST: Final = 16  # directories read at once


class Lookahead:
    """Directories of one source, asked for roughly in the order of their paths."""

    def __init__(self, journal: Journal, pages: PageReader, source: int) -> None:
        """Take the journal, its pages, and the number of the source."""
        self._journal = journal
        self._pages = pages
        self._source = source
        self._rows: dict[bytes, Row] = {}
        self._changes = journal.changes  # when they were read
        self._count = 0

    def take(self, path: bytes) -> tuple[Directory, Page | None] | None:
        """Return a directory and its first page, if it has any; None: it is not known."""
        if self._changes != self._journal.changes or path not in self._rows:
            self._read(path)
        row = self._rows.pop(path, None)
        return None if row is None else self._pages.from_row(row)

    def _read(self, path: bytes) -> None:
        """Read what is at `path` and behind it: more each time, if all that was read was taken."""
        self._count = 1 if self._rows else min(2 * self._count or 1, MOST)
        self._changes = self._journal.changes
        rows = self._pages.directories_from(self._source, path, self._count)
        self._rows = {row[2]: row for row in rows}
