"""The journal's SQLite file: opened or begun anew, one transaction at a time, errors that say what.

Calls block; one thread at a time.
"""

import logging
import os
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

from agent.errors import JournalError

VERSION = 1

_PAGE_BYTES = 16 * 1024  # leaf pages take 10 to 60 KB: with SQLite's 4 KiB each is a long chain
_CACHE_KIB = 16 * 1024
_SCHEMA = """
BEGIN;
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sources(
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, device INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE dirs(
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never given to another directory
    source INTEGER NOT NULL, path BLOB NOT NULL,
    parent INTEGER NOT NULL, depth INTEGER NOT NULL,
    root BLOB, files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE(source, path)
);
CREATE INDEX dirs_dirty ON dirs(depth, parent, path) WHERE root IS NULL;
CREATE TABLE pages(
    row INTEGER PRIMARY KEY, dir INTEGER NOT NULL, first BLOB NOT NULL, id BLOB,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL,
    changed INTEGER NOT NULL, unreadable INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE(dir, first)
);
CREATE TABLE links(page INTEGER, inode INTEGER, PRIMARY KEY(page, inode)) WITHOUT ROWID;
CREATE INDEX links_inode ON links(inode);  -- an event names one of a file's names only
CREATE INDEX pages_flawed ON pages(dir) WHERE changed OR unreadable;
INSERT INTO dirs(id, source, path, parent, depth) VALUES (1, 0, x'', 0, 0);  -- ROOT, NO_SOURCE
COMMIT;
"""

# text that is none comes of a flipped bit as well, and Python itself raises that one
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)

log = logging.getLogger(__name__)


def _text(data: bytes) -> str:
    """Return text also where a bit has flipped in it: what reads it finds that it is another."""
    return data.decode(errors="replace")


class JournalFile:
    """The file, open; `close` it."""

    def __init__(self, path: str, identity: bytes) -> None:
        """Open or make the journal at `path`, which belongs to what `identity` names.

        One that is damaged, of another version, or of another identity is moved aside (kept as
        `PATH.aside`), and a new one begun.  Raises JournalError where that cannot be done.
        """
        self._path = path
        self._identity = identity
        self.damaged = False  # a page did not verify: `rebuild` before the next use
        self.on_commit: Callable[[], None] | None = None  # adds its part to a transaction
        self._db = self._opened()

    def close(self) -> None:
        """Give up what was not committed, and close."""
        self._db.close()

    def rebuild(self, why: str = "is damaged") -> None:
        """Move the journal aside and begin a new one: everything will be read again."""
        self._db.close()
        self._move_aside(why)
        self.damaged = False
        self._db = self._opened()

    # -- transactions ---------------------------------------------------------------------------

    def commit(self) -> None:
        """Make durable what was written since the last commit."""
        if self._db.in_transaction:
            if self.on_commit is not None:
                self.on_commit()
            self.write("COMMIT")

    def rollback(self) -> None:
        """Forget what was written since the last commit."""
        if self._db.in_transaction:
            self.write("ROLLBACK")

    # -- SQL ------------------------------------------------------------------------------------

    def row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - SQL values
        """Return the first row of a query, or None."""
        try:
            found: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
        except _UNREADABLE as error:
            raise self._failed(error) from error
        return found

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - SQL values
        """Return all rows of a query that is bounded by its LIMIT or its nature."""
        try:
            return self._db.execute(sql, values).fetchall()
        except _UNREADABLE as error:
            raise self._failed(error) from error

    def change(self, sql: str, *values: Any) -> sqlite3.Cursor:  # noqa: ANN401 - SQL values
        """Write, within the transaction that `commit` ends."""
        if not self._db.in_transaction:
            self.write("BEGIN IMMEDIATE")
        return self.write(sql, *values)

    def write(self, sql: str, *values: Any) -> sqlite3.Cursor:  # noqa: ANN401 - SQL values
        """Carry out one statement as it is."""
        try:
            return self._db.execute(sql, values)
        except _UNREADABLE as error:
            raise self._failed(error) from error

    def verified(self, body: bytes, crc: int) -> bytes:
        """Return a page's body; raise JournalError where a bit of it has flipped on the disk."""
        if zlib.crc32(body) != crc:
            raise self.failed_verification()
        return body

    def failed_verification(self) -> JournalError:
        """Return the error for content that is not what was written; marks the journal damaged."""
        self.damaged = True
        return JournalError(
            f"the journal {self._path} is damaged",
            hint="nothing is lost: it is rebuilt by reading the sources again",
        )

    # -- opening --------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                return self._connected()
            except sqlite3.OperationalError as error:
                raise self._failed(error) from error
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                self._move_aside("is damaged, or belongs to something else")
        raise JournalError(f"the journal {self._path} cannot be begun anew")

    def _connected(self) -> sqlite3.Connection:
        """Return a connection; raise sqlite3.DatabaseError where this is no journal of ours."""
        db = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        db.text_factory = _text
        try:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                os.chmod(self._path, 0o600)
                db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_SCHEMA)
                own = (("identity", self._identity), ("version", VERSION))
                db.executemany("INSERT INTO meta VALUES (?, ?)", own)
            # A run commits a few times and each commit follows an fsync of 32 MiB packs: one more
            # costs nothing, and what the journal says is then as durable as what it speaks of.
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            facts = dict(db.execute("SELECT key, value FROM meta"))
        except BaseException:
            db.close()
            raise
        if facts.get("version") != VERSION or facts.get("identity") != self._identity:
            db.close()
            raise sqlite3.DatabaseError("not this vault's journal")
        return db

    def _move_aside(self, why: str) -> None:
        log.warning("the journal %s %s: kept as .aside, all is read again", self._path, why)
        try:
            os.replace(self._path, f"{self._path}.aside")
            for suffix in ("-wal", "-shm"):
                if os.path.exists(self._path + suffix):
                    os.replace(self._path + suffix, f"{self._path}.aside{suffix}")
        except OSError as error:
            raise JournalError(
                f"the journal {self._path} cannot be moved aside: {error.strerror}",
                hint="check the rights on the agent's state directory",
            ) from error

    def _failed(self, error: Exception) -> JournalError:
        if isinstance(error, sqlite3.OperationalError):
            return JournalError(
                f"the journal {self._path} cannot be used: {error}",
                hint="check space and rights in the agent's state directory; nothing was lost",
            )
        return self.failed_verification()
