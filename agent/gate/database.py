"""The gate's SQLite file: how it is opened, and that a commit is on disk before it counts."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.errors import RepositoryTooNew, StoreFull, StoreUnavailable

VERSION: Final = 1
_BUSY_S: Final = 30.0  # another connection's transaction is a few milliseconds of one sync
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # in WAL mode NORMAL may lose the last commits: a used code
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what was deleted is a secret as well
)
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    uid INTEGER NOT NULL,
    department TEXT NOT NULL,
    verifier TEXT NOT NULL,         -- Argon2id, PHC string
    token BLOB NOT NULL,            -- sealed TOTP secret; the box is bound to all rights
    last_step INTEGER NOT NULL DEFAULT -1,
    failures INTEGER NOT NULL DEFAULT 0,
    disabled INTEGER NOT NULL DEFAULT 0,
    last_used_ns INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX users_active_uid ON users (uid) WHERE disabled = 0;
CREATE TABLE roles (
    user TEXT NOT NULL REFERENCES users (name),
    role TEXT NOT NULL,
    PRIMARY KEY (user, role)
) STRICT;
CREATE TABLE recovery_codes (
    user TEXT NOT NULL REFERENCES users (name),
    digest BLOB NOT NULL,
    PRIMARY KEY (user, digest)
) STRICT;
CREATE TABLE refused_unseen (       -- attempts that can count against nobody
    only INTEGER PRIMARY KEY CHECK (only = 0),
    attempts INTEGER NOT NULL
) STRICT;
INSERT INTO refused_unseen VALUES (0, 0);
PRAGMA user_version = 1;
COMMIT;
"""


class Database:
    """One connection, for any thread, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file at `path`, readable by its owner alone."""
        self._lock = threading.Lock()
        with _failures(), _alone_in(path.parent):
            _create(path)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one writing transaction: durable when the block is left, undone if it raises.

        Raises StoreUnavailable or StoreFull where that cannot be had.
        """
        with self._lock, _failures():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        for setting in _SETTINGS:
            self._connection.execute(setting)
        if self._version() == 0:
            self._connection.executescript(_SCHEMA)
        if self._version() != VERSION:
            raise RepositoryTooNew(
                f"the gate's users have version {self._version()}; this program knows {VERSION}"
            )

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])


def _create(path: Path) -> None:
    """Make an empty file for its owner alone.

    One that exists is not opened: closing it would drop the locks of SQLite's own descriptors.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: SQLite's own does not cover the change to WAL mode."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what SQLite and the disk raise into errors of ours; their texts may quote rows."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(
                "the gate's users cannot be written: the disk is full",
                hint="free space where the gate keeps its state",
            ) from error
        raise StoreUnavailable("the gate's users cannot be read or written") from error
    except OSError as error:
        raise StoreUnavailable(f"the gate's users cannot be opened: {error.strerror}") from error
