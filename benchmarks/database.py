"""The tree's database: which studies, images and records there are, and a long log of events."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.images import Study
from benchmarks.records import prose

PATH = Path("database", "hospital.sqlite")
_PAGE_BYTES = 4096
_LOG_ROWS = 500  # a batch
_SCHEMA = """
CREATE TABLE studies (uid TEXT PRIMARY KEY, patient_id TEXT, patient_name TEXT, date TEXT,
                      accession TEXT);
CREATE TABLE images (sop_uid TEXT PRIMARY KEY, study TEXT, modality TEXT, path TEXT, bytes INTEGER);
CREATE INDEX images_by_study ON images (study);
CREATE TABLE records (path TEXT PRIMARY KEY, kind TEXT, patient_id TEXT);
CREATE TABLE log (id INTEGER PRIMARY KEY, event TEXT, detail TEXT);
"""


class StoredImage(NamedTuple):
    """An image's row; `path` is relative to the tree."""

    sop_uid: str
    study: str
    modality: str
    path: str
    bytes: int


class StoredRecord(NamedTuple):
    """A record's row; `path` is relative to the tree."""

    path: str
    kind: str
    patient_id: str


@contextmanager
def opened(tree: Path) -> Iterator[sqlite3.Connection]:
    """Open the tree's database in one transaction, made if it is not there; commit at the end."""
    path = tree / PATH
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = off")  # made in a moment, and made again if lost
        if is_new:
            db.executescript(f"PRAGMA page_size = {_PAGE_BYTES};{_SCHEMA}")
        with db:
            yield db


def add_study(db: sqlite3.Connection, study: Study, images: Iterable[StoredImage]) -> None:
    """Note a study and its images."""
    db.execute("INSERT INTO studies VALUES (?, ?, ?, ?, ?)", study)
    db.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", images)


def add_records(db: sqlite3.Connection, records: Iterable[StoredRecord]) -> None:
    """Note records."""
    db.executemany("INSERT INTO records VALUES (?, ?, ?)", records)


def studies(db: sqlite3.Connection) -> list[Study]:
    """Return every study, in an order that does not change."""
    rows = db.execute("SELECT uid, patient_id, patient_name, date, accession FROM studies")
    return sorted(Study(*row) for row in rows)


def images(db: sqlite3.Connection, study: str) -> list[StoredImage]:
    """Return a study's images, in an order that does not change."""
    rows = db.execute("SELECT * FROM images WHERE study = ?", (study,))
    return sorted(StoredImage(*row) for row in rows)


def records(db: sqlite3.Connection) -> list[StoredRecord]:
    """Return every record, in an order that does not change."""
    return sorted(StoredRecord(*row) for row in db.execute("SELECT * FROM records"))


def move_image(db: sqlite3.Connection, image: StoredImage, path: str, size: int) -> None:
    """Note that an image was written anew, at another path."""
    row = (path, size, image.sop_uid)
    db.execute("UPDATE images SET path = ?, bytes = ? WHERE sop_uid = ?", row)


def log_events(db: sqlite3.Connection, random: Random, count: int) -> None:
    """Add rows to the log."""
    rows = ((f"event{random.randrange(40)}", prose(random, 24)) for _ in range(count))
    db.executemany("INSERT INTO log (event, detail) VALUES (?, ?)", rows)


def fill(db: sqlite3.Connection, random: Random, size: int) -> None:
    """Add to the log until the file has about `size` bytes."""
    while db.execute("PRAGMA page_count").fetchone()[0] * _PAGE_BYTES < size:
        log_events(db, random, _LOG_ROWS)


def change_events(db: sqlite3.Connection, random: Random, count: int) -> None:
    """Change rows all over the log, as a day's work does."""
    last = db.execute("SELECT max(id) FROM log").fetchone()[0]
    if last is None:
        return
    rows = [(prose(random, 24), random.randrange(1, last + 1)) for _ in range(count)]
    db.executemany("UPDATE log SET detail = ? WHERE id = ?", rows)
