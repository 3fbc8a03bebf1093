"""What the journal knows of a source's directories, read ahead in the order of their paths.

A full scan asks for each directory and its first page: one query for many costs a fraction of two
for each.  What is written to a directory meanwhile makes what was read of it worthless.  Memory:
`MOST` pages.
"""

from typing import Final

from agent.backup.journal import Directory
from agent.backup.pages import Pages
from agent.backup.readpages import Page, Row

MOST: Final = 16  # directories read at once


class Lookahead:
    """Directories of one source, asked for roughly in the order of their paths."""

    def __init__(self, pages: Pages, source: int) -> None:
        """Take the journal's pages, of which it is told what changes, and the source's number."""
        self._pages = pages
        self._source = source
        self._rows: dict[bytes, Row] = {}
        self._after = self._to = b""  # of paths between these it is known what there is
        self._count = 0
        pages.on_change = self._forget

    def take(self, path: bytes) -> tuple[Directory, Page | None] | None:
        """Return a directory and its first page, if it has any; None: it is not known."""
        if not self._after < path <= self._to:
            self._read(path)
        row = self._rows.pop(path, None)
        self._after = path  # and what is asked for a second time is looked up again
        return None if row is None else self._pages.from_row(row)

    def _read(self, path: bytes) -> None:
        """Read what is at `path` and behind it: more each time, if all that was read was taken."""
        self._count = 1 if self._rows else min(2 * self._count or 1, MOST)
        rows = self._pages.directories_from(self._source, path, self._count)
        self._rows = {row[2]: row for row in rows}
        self._to = rows[-1][2] if rows else path

    def _forget(self, directory: int | None) -> None:
        """Look up again what was read, if that has changed or some of it may have been dropped."""
        if directory is None or any(row[0] == directory for row in self._rows.values()):
            self._rows.clear()
            self._to = b""
