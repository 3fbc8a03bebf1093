"""Cuts of databases: a changed row costs its pages, and no other file is taken for one."""

import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.encode.paged import MAX_RUN_BYTES, MOST_RUNS, RUN_BYTES, RunCuts, run_cuts

KiB = 1024
MiB = 1024 * KiB
POSTGRESQL_PAGE = bytes(12) + struct.pack("<HHHH", 48, 7000, 8192, 8196) + bytes(8172)


def sqlite_file(path: Path, page_bytes: int = 4096) -> Path:
    """Return a real database of about 4 MB."""
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA page_size = {page_bytes}")
        database.execute("CREATE TABLE study (id INTEGER PRIMARY KEY, about TEXT)")
        rows = ((f"study {number} " + "x" * (number % 90 + 30),) for number in range(40_000))
        database.executemany("INSERT INTO study (about) VALUES (?)", rows)
    database.close()
    return path


def runs(data: bytes) -> list[bytes]:
    """Return the runs of a file that is in memory as a whole."""
    cuts = run_cuts(memoryview(data), len(data))
    assert cuts is not None
    return [bytes(run) for run in cuts.cut(memoryview(data))]


@pytest.mark.parametrize("page_bytes", [512, 4096, 65_536])
def test_a_changed_row_costs_its_pages(tmp_path: Path, page_bytes: int) -> None:
    """And those of the database's own header."""
    path = sqlite_file(tmp_path / "index", page_bytes)
    before = runs(path.read_bytes())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE study SET about = 'merged' WHERE id = 20000")
    database.close()
    after = runs(path.read_bytes())
    assert 1 <= len(set(after) - set(before)) <= 2 + page_bytes // RUN_BYTES
    assert len(after) == len(before)


def test_tables_of_postgresql_are_cut_so_too() -> None:
    """By the bounds that two pages state."""
    assert runs(POSTGRESQL_PAGE * 40) == [POSTGRESQL_PAGE * 4] * 10


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:200_000],  # one chunk anyway
        lambda data: b"sqlite" + data[6:],
        lambda data: data[:16] + b"\x03\x00" + data[18:],
        lambda data: data[:16] + b"\x00\x00" + data[18:],
    ],
)
def test_other_files_are_cut_by_content(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Small ones, and those whose beginning says something else."""
    data = spoil(sqlite_file(tmp_path / "index").read_bytes())
    assert run_cuts(memoryview(data), len(data)) is None


@pytest.mark.parametrize(
    "words",
    [
        (20, 7000, 8192, 8196),
        (7001, 7000, 8192, 8196),
        (48, 7000, 8193, 8196),
        (48, 96, 8192, 8195),
    ],
)
def test_pages_out_of_bounds_are_none(words: tuple[int, int, int, int]) -> None:
    """Each bound counts, and so does the version."""
    page = bytes(12) + struct.pack("<HHHH", *words) + bytes(8172)
    for data in (page * 40, POSTGRESQL_PAGE + page * 40):
        assert run_cuts(memoryview(data), len(data)) is None


@given(
    st.integers(0, 5 * RUN_BYTES),
    st.integers(1, 3 * RUN_BYTES),
    st.sampled_from([RUN_BYTES, 2 * RUN_BYTES]),
)
def test_cuts_do_not_depend_on_the_pieces(length: int, piece: int, run: int) -> None:
    """As the reader passes a file through its buffer, what is not yielded is put in front."""
    data = bytes(n * n % 251 for n in range(length))
    cuts, found, start, end = RunCuts(run), list[bytes](), 0, 0
    while (end := min(end + piece, length)) < length:
        some = [bytes(chunk) for chunk in cuts.cut_some(memoryview(data)[start:end])]
        found += some
        start += sum(map(len, some))
    found += [bytes(chunk) for chunk in cuts.cut(memoryview(data)[start:])]
    assert found == [data[at : at + run] for at in range(0, length, run)]


def test_runs_grow_with_the_file() -> None:
    """So that a terabyte has a small index: MOST_RUNS of them, or MAX_RUN_BYTES each."""
    first = memoryview(POSTGRESQL_PAGE * 2)
    for size, expected in (
        (RUN_BYTES * MOST_RUNS, RUN_BYTES),
        (RUN_BYTES * MOST_RUNS + 1, 2 * RUN_BYTES),
        (1 << 40, MAX_RUN_BYTES),
    ):
        cuts = run_cuts(first, size)
        assert cuts is not None
        assert len(next(cuts.cut(memoryview(bytes(2 * MiB))))) == expected
