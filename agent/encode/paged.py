"""Cuts for databases, which are written in place a page at a time: at fixed distances.

A content-defined cut finds again what was shifted, and costs a whole chunk where a row changes.
In a file of pages nothing is ever shifted, so short runs of pages find as much and cost less
(docs/decisions/0018-databases.md).  Known by its first bytes: SQLite's file format 1.3 ("magic
header string", "page size"), PostgreSQL's page layout (storage/bufpage.h, layout version 4).
"""

import struct
from collections.abc import Iterator

from agent.encode.chunker import MIN_CHUNK_BYTES, KiB, MiB

RUN_BYTES = 32 * KiB  # less costs more index than it saves
MAX_RUN_BYTES = MiB
MOST_RUNS = 16 * KiB  # of a file: from 512 MiB on runs are longer, and so on at each doubling
_SQLITE = b"SQLite format 3\0"
_SQLITE_PAGE = struct.Struct(">H")  # at 16; 1 stands for 65,536, and a run holds that too
_SMALLEST_PAGE, _LARGEST_PAGE = 512, 32 * KiB
_POSTGRESQL_PAGE = 8 * KiB
_POSTGRESQL_BOUNDS = struct.Struct("<HHHH")  # at 12: lower, upper, special; size and version
_POSTGRESQL_HEAD = 24


class RunCuts:
    """Cuts a stream into runs of one length; the last may be shorter."""

    __slots__ = ("_run",)

    def __init__(self, run_bytes: int) -> None:
        """Take the length."""
        self._run = run_bytes

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Yield all runs of the last piece."""
        for at in range(0, len(data), self._run):
            yield data[at : at + self._run]

    def cut_some(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the runs that are whole while more is to come."""
        return self.cut(data[: len(data) - len(data) % self._run])


def run_cuts(first: memoryview, size: int) -> RunCuts | None:
    """Return how to cut a file of pages of `size` bytes, which begins so; None for any other."""
    if size <= MIN_CHUNK_BYTES or not (_is_sqlite(first) or _is_postgresql(first)):
        return None
    run = RUN_BYTES
    while run < MAX_RUN_BYTES and run * MOST_RUNS < size:
        run *= 2
    return RunCuts(run)


def _is_sqlite(first: memoryview) -> bool:
    if first[: len(_SQLITE)] != _SQLITE or len(first) < len(_SQLITE) + _SQLITE_PAGE.size:
        return False
    page: int = _SQLITE_PAGE.unpack_from(first, len(_SQLITE))[0]
    return page == 1 or (page.bit_count() == 1 and _SMALLEST_PAGE <= page <= _LARGEST_PAGE)


def _is_postgresql(first: memoryview) -> bool:
    """Tell whether the first two pages look like a table's or an index's."""
    return len(first) >= 2 * _POSTGRESQL_PAGE and all(
        _is_postgresql_page(first[at:]) for at in (0, _POSTGRESQL_PAGE)
    )


def _is_postgresql_page(page: memoryview) -> bool:
    lower, upper, special, size_and_version = _POSTGRESQL_BOUNDS.unpack_from(page, 12)
    is_ordered = _POSTGRESQL_HEAD <= lower <= upper <= special <= _POSTGRESQL_PAGE
    return bool(is_ordered and size_and_version == _POSTGRESQL_PAGE | 4)
