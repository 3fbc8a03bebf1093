"""The journal: what the last snapshot saw of each source, page by page, in SQLite.

It holds the leaf pages that the repository holds, in the clear, to compare the file system with
(docs/decisions/0002-journal-holds-pages.md).  It is a copy of what is known, never the only one:
a lost or damaged journal costs reading everything again, and stores nothing twice.

A journal only names chunks that are durable and indexed.  Its owner keeps that rule by calling
`commit` after the repository's flush and `rollback` after a failure; everything in between is one
transaction.  Calls block; one thread at a time.
"""

from typing import NamedTuple

from agent.backup.journalfile import JournalFile

ROOT = 1  # the directory above the sources: its pages are the snapshot's root
NO_SOURCE = 0


class Directory(NamedTuple):
    """A directory as the journal knows it; `root` is None while its tree must be made anew."""

    id: int
    source: int
    path: bytes  # below the source; the source itself is empty
    parent: int
    depth: int  # of the directory above the sources: 0
    root: bytes | None
    files: int
    bytes: int


class Journal(JournalFile):
    """One vault's journal, open; `close` it."""

    # -- small facts ----------------------------------------------------------------------------

    def fact(self, key: str) -> bytes:
        """Return what was noted under `key`, or nothing."""
        found = self.row("SELECT value FROM meta WHERE key = ?", key)
        return bytes(found[0]) if found else b""

    def note(self, key: str, value: bytes) -> None:
        """Note `value` under `key`."""
        self.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    # -- sources --------------------------------------------------------------------------------

    def source(self, path: bytes) -> int:
        """Return the number of the source at `path`, a new one for a new path."""
        found = self.row("SELECT id FROM sources WHERE path = ?", path)
        if found:
            return int(found[0])
        self.change("INSERT INTO sources(path) VALUES (?)", path)
        return self.source(path)

    def sources(self) -> list[tuple[int, bytes]]:
        """Return number and path of every known source."""
        return [(int(id_), bytes(path)) for id_, path in self.rows("SELECT id, path FROM sources")]

    def device(self, source: int) -> int:
        """Return the device that the source was on when it was last seen, or 0."""
        found = self.row("SELECT device FROM sources WHERE id = ?", source)
        return int(found[0]) if found else 0

    def set_device(self, source: int, device: int) -> None:
        """Remember which device the source is on."""
        self.change("UPDATE sources SET device = ? WHERE id = ?", device, source)

    def forget_source(self, source: int) -> None:
        """Drop everything below a source that is no longer configured."""
        self.remove_tree(source, b"")
        self.change("DELETE FROM sources WHERE id = ?", source)

    # -- directories ----------------------------------------------------------------------------

    def directory(self, source: int, path: bytes) -> Directory | None:
        """Return the directory at `path` of `source`, or None."""
        found = self.row(
            "SELECT id, source, path, parent, depth, root, files, bytes FROM dirs"
            " WHERE source = ? AND path = ?",
            source,
            path,
        )
        return Directory(*found) if found else None

    def add_directory(self, source: int, path: bytes, parent: Directory) -> Directory:
        """Return a new, empty directory below `parent`."""
        cursor = self.change(
            "INSERT INTO dirs(source, path, parent, depth) VALUES (?, ?, ?, ?)",
            source,
            path,
            parent.id,
            parent.depth + 1,
        )
        row = int(cursor.lastrowid or 0)
        return Directory(row, source, path, parent.id, parent.depth + 1, None, 0, 0)

    def has(self, directory: int) -> bool:
        """Tell whether a directory is still there."""
        return self.row("SELECT 1 FROM dirs WHERE id = ?", directory) is not None

    def root(self) -> Directory:
        """Return the directory above the sources."""
        found = self.directory(NO_SOURCE, b"")
        if found is None:
            raise self.failed_verification()
        return found

    def is_dirty(self) -> bool:
        """Tell whether the tree of any directory must be made anew."""
        return self.row("SELECT 1 FROM dirs WHERE root IS NULL LIMIT 1") is not None

    def remove_tree(self, source: int, path: bytes) -> None:
        """Drop a directory and everything below it; its parent's entry is the caller's to drop."""
        where_values = (source, path, *below(path))
        where = "source = ? AND (path = ? OR (path > ? AND path < ?))"
        pages = f"pages WHERE dir IN (SELECT id FROM dirs WHERE {where})"  # noqa: S608 - constant
        self.change(f"DELETE FROM links WHERE page IN (SELECT row FROM {pages})", *where_values)  # noqa: S608 - constant
        self.change(f"DELETE FROM {pages}", *where_values)  # noqa: S608 - constant
        self.change(f"DELETE FROM dirs WHERE {where}", *where_values)  # noqa: S608 - constant

    def flawed(self, source: int) -> tuple[int, int]:
        """Return how many entries of `source` changed while they were read, and are unreadable."""
        found = self.row(
            "SELECT coalesce(sum(changed), 0), coalesce(sum(unreadable), 0) FROM pages"
            " JOIN dirs ON dirs.id = dir WHERE (changed OR unreadable) AND source = ?",
            source,
        )
        return (int(found[0]), int(found[1])) if found else (0, 0)


def below(path: bytes) -> tuple[bytes, bytes]:
    """Return the bounds, exclusive, between which the paths below `path` sort."""
    if not path:
        return b"", b"\xff" * 4096  # longer than any name, so above every path
    return path + b"/", path + b"0"  # 0 follows / in ASCII
