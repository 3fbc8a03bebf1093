"""Measure what the journal could be kept in: docs/decisions/0003-journal-store.md.

    python -m benchmarks.journal_store [SCRATCH_DIR [SMALL_DIR]]

Each store runs in a process of its own, so that peak memory is its own.  SMALL_DIR is on a file
system of 16 MB or so that the load fills.  LMDB is measured if its Python package is there.
"""

import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

try:
    import lmdb
except ImportError:
    lmdb = None

PAGES = 3_000  # directories of one page each: 300,000 entries of about 200 bytes
BODY_BYTES = 20_000
BATCH = 100  # pages a transaction in the first load
ROUNDS = 200
CHANGED = 3  # pages a round: a snapshot after three changes
MAP_BYTES = 64 * 1024**3  # LMDB wants to be told before; address space only

Page = tuple[int, bytes, bytes]


class Sqlite:
    """One row a page, in a write-ahead log, every commit synced."""

    full: tuple[type[Exception], ...] = (sqlite3.OperationalError,)

    def __init__(self, directory: Path, page_bytes: int) -> None:
        """Open or make the store."""
        self.db = sqlite3.connect(directory / "journal.db", isolation_level=None)
        for setting in (
            f"page_size={page_bytes}",
            "journal_mode=wal",
            "synchronous=full",
            "cache_size=-16384",
        ):
            self.db.execute(f"PRAGMA {setting}")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS pages(dir INTEGER, first BLOB, body BLOB,"
            " UNIQUE(dir, first))"
        )

    def write(self, pages: Iterable[Page]) -> None:
        """Store pages in one transaction."""
        self.db.execute("BEGIN")
        try:
            self.db.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", pages)
            self.db.execute("COMMIT")
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def read(self, number: int, first: bytes) -> bytes:
        """Return one page."""
        row = self.db.execute("SELECT body FROM pages WHERE dir=? AND first=?", (number, first))
        return bytes(row.fetchone()[0])

    def scan(self) -> Iterator[bytes]:
        """Yield every page in the order of keys."""
        for (body,) in self.db.execute("SELECT body FROM pages ORDER BY dir, first"):
            yield body

    def close(self) -> None:
        """Close the store."""
        self.db.close()


class Lmdb:
    """One value a page."""

    full: tuple[type[Exception], ...] = (lmdb.Error,) if lmdb else ()

    def __init__(self, directory: Path) -> None:
        """Open or make the store."""
        self.env: Any = lmdb.open(str(directory), map_size=MAP_BYTES)

    def write(self, pages: Iterable[Page]) -> None:
        """Store pages in one transaction."""
        with self.env.begin(write=True) as transaction:
            for number, first, body in pages:
                transaction.put(number.to_bytes(8, "big") + first, body)

    def read(self, number: int, first: bytes) -> bytes:
        """Return one page."""
        with self.env.begin() as transaction:
            return bytes(transaction.get(number.to_bytes(8, "big") + first))

    def scan(self) -> Iterator[bytes]:
        """Yield every page in the order of keys."""
        with self.env.begin() as transaction:
            for _, body in transaction.cursor():
                yield body

    def close(self) -> None:
        """Close the store."""
        self.env.close()


STORES: dict[str, Callable[[Path], Any]] = {
    "sqlite, 4 KiB pages": lambda directory: Sqlite(directory, 4096),
    "sqlite, 16 KiB pages": lambda directory: Sqlite(directory, 16384),
} | ({"lmdb": Lmdb} if lmdb else {})


class Measured(NamedTuple):
    """One store's figures."""

    load_s: float
    scan_s: float
    update_ms: float  # median: read three pages, write three, commit
    update_p95_ms: float
    mb: float
    peak_mb: float


def batches() -> Iterator[list[Page]]:
    """Yield the pages of the first load: the same ones each time."""
    source = random.Random(1)
    for start in range(0, PAGES, BATCH):
        yield [page_of(number, source) for number in range(start, start + BATCH)]


def page_of(number: int, source: random.Random) -> Page:
    """Return a page like that of a directory of 100 images."""
    return number, b"IM%06d" % number, source.randbytes(BODY_BYTES + source.randrange(-500, 500))


def measure(name: str, directory: Path) -> Measured:
    """Load, scan and update one store in `directory`."""
    store = STORES[name](directory)
    start = time.monotonic()
    for batch in batches():
        store.write(batch)
    loaded = time.monotonic()
    assert sum(len(body) for body in store.scan()) > PAGES * (BODY_BYTES - 500)
    scanned = time.monotonic()
    rounds = sorted(update(store, random.Random(seed)) for seed in range(ROUNDS))
    store.close()
    size = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(
        loaded - start,
        scanned - loaded,
        statistics.median(rounds) * 1000,
        rounds[ROUNDS * 95 // 100] * 1000,
        size / 1e6,
        peak / 1e6,
    )


def update(store: Sqlite | Lmdb, source: random.Random) -> float:
    """Read some pages, write them anew and commit; return seconds."""
    pages = [page_of(source.randrange(PAGES), source) for _ in range(CHANGED)]
    start = time.monotonic()
    for number, first, _ in pages:
        store.read(number, first)
    store.write(pages)
    return time.monotonic() - start


def fill(name: str, directory: Path) -> str:
    """Load a store until its disk is full; say what it said and whether it is whole after that."""
    store = STORES[name](directory)
    stored, said = 0, "nothing: the disk did not fill"
    try:
        for batch in batches():
            store.write(batch)
            stored += len(batch)
    except store.full as error:
        said = f"{type(error).__name__}: {error}"
    with suppress(*store.full):
        store.close()
    store = STORES[name](directory)
    found = sum(1 for _ in store.scan())
    store.close()
    return f"{said}; {found} of {stored} committed pages after that"


def main(arguments: list[str]) -> None:
    """Measure every store in a process of its own, or, called by ourselves, one."""
    if arguments[:1] == ["--one"]:
        _, name, directory, what = arguments
        if what == "measure":
            print(f"{name:22}", *map(shown, measure(name, Path(directory))), sep="  ")
        else:
            print(f"{name:22}  {fill(name, Path(directory))}")
        return
    places = {"measure": arguments[:1] or [tempfile.gettempdir()], "fill": arguments[1:2]}
    for what, where in places.items():
        if what == "measure":
            print(f"{'':22}", *(f"{field:>13}" for field in Measured._fields), sep="  ")
        for name in STORES:
            for parent in where:
                one(name, parent, what)


def shown(figure: float) -> str:
    """Return a figure as a column."""
    return f"{figure:13.3f}"


def one(name: str, parent: str, what: str) -> None:
    """Run one store in a process and a directory of its own."""
    directory = tempfile.mkdtemp(prefix="journal-", dir=parent)
    try:
        command = [sys.executable, "-m", "benchmarks.journal_store", "--one", name, directory, what]
        subprocess.run(command, check=True)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1:])
