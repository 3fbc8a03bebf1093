"""Reading ahead: for who reads in sequence, and for nobody else."""

from itertools import pairwise

import pytest

from agent.model.tree import Entry, Kind
from fsdriver.ahead import (
    BATCH_BYTES,
    FIRST_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    Job,
    ReadAhead,
    ReadPattern,
)
from fsdriver.content import Content
from fsdriver.nodes import Place
from tests.fakes.tree_reader import TreeReaderFake

KiB = 1024
BLOCK = 128 * KiB


def test_reading_in_sequence_stays_ahead_with_a_growing_window() -> None:
    """What is fetched is contiguous, never twice, always beyond the reader, and bounded."""
    pattern = ReadPattern()
    wanted = [pattern.note(at, BLOCK) for at in range(0, 100 * KiB * KiB, BLOCK)]
    fetched = [(start, length) for start, length in wanted if length]
    assert wanted[0] == (0, 0)
    assert fetched[0] == (2 * BLOCK, FIRST_WINDOW_BYTES)
    for (start, length), (following, _) in pairwise(fetched):
        assert start + length == following
    assert max(length for _, length in fetched) == MAX_WINDOW_BYTES
    assert len(fetched) < 20


def test_reading_here_and_there_fetches_nothing() -> None:
    """Random access costs ranged reads of what was asked, and no more."""
    pattern = ReadPattern()
    places = [0, 50_000_000, 10_000_000, 90_000_000, 30_000_000]
    assert [pattern.note(at, BLOCK) for at in places] == [(0, 0)] * len(places)


def test_jump_starts_anew() -> None:
    """After a jump the window is small again, and where the reader now is."""
    pattern = ReadPattern()
    for at in range(0, 20 * BLOCK, BLOCK):
        pattern.note(at, BLOCK)
    assert pattern.note(500_000_000, BLOCK) == (0, 0)
    start, length = pattern.note(500_000_000 + BLOCK, BLOCK)
    assert (start, length) == (500_000_000 + 2 * BLOCK, FIRST_WINDOW_BYTES)


def test_file_that_was_fetched_whole_is_not_fetched_again() -> None:
    """Reading it in sequence asks for nothing before its end."""
    pattern = ReadPattern(fetched=4 * BLOCK)
    starts = [pattern.note(at, BLOCK)[0] for at in range(0, 4 * BLOCK, BLOCK)]
    assert min(start for start in starts if start) == 4 * BLOCK


class Tree:
    """A source of directories and files of one chunk each, and somebody who opens them."""

    def __init__(self, directories: int, files: int, file_bytes: int = 4000) -> None:
        """Make it, with nothing opened."""
        self.reader = TreeReaderFake()
        self.jobs: list[Job] = []
        self.ahead = ReadAhead(
            self.reader, self.reader, self.reader, MAX_WINDOW_BYTES, self.jobs.append
        )
        self.paths: list[tuple[Place, Place]] = []
        made = []
        for number in range(directories):
            names = [b"%04d" % each for each in range(files)]
            entries = [self._file(b"%d" % number + name, name, file_bytes) for name in names]
            tree = self.reader.put_directory(entries)
            made.append(Entry(name=b"%04d" % number, kind=Kind.DIRECTORY, tree=tree))
        root = self.reader.put_directory(made)
        for above in made:
            for number in range(files):
                self.paths.append((Place(above.tree, b"%04d" % number), Place(root, above.name)))

    def _file(self, salt: bytes, name: bytes, size: int) -> Entry:
        data = (salt * size)[:size]
        content, depth = self.reader.put_content([data])
        return Entry(name=name, size=size, content=content, depth=depth)

    def open(self, number: int, *, work: bool = True) -> bool:
        """Open the `number`th file; do the jobs that came of it; tell if it was fetched ahead."""
        places = self.paths[number]
        fetched = self.ahead.opened(lambda: places, *places[0])
        while work and self.jobs:
            self.jobs.pop(0)()
        return fetched is not None


@pytest.mark.parametrize(("directories", "files"), [(1, 100), (100, 1), (10, 10)])
def test_files_opened_as_a_walk_meets_them_are_fetched_ahead(directories: int, files: int) -> None:
    """In one directory or over many: after three files all that follow are, each once."""
    tree = Tree(directories, files)
    found = [tree.open(number) for number in range(100)]
    assert found == [False] * 3 + [True] * 97
    assert len(tree.reader.prefetched) == len(set(tree.reader.prefetched)) == 97


def test_small_files_are_fetched_many_at_a_time() -> None:
    """A hundred opens: two jobs for threads, the second of which finds the end."""
    tree = Tree(1, 100)
    jobs = 0
    for number in range(100):
        tree.open(number, work=False)
        jobs += len(tree.jobs)
        while tree.jobs:
            tree.jobs.pop(0)()
    assert jobs == 2


def test_files_opened_in_no_order_are_not_followed() -> None:
    """Looking at single images costs single images."""
    tree = Tree(10, 10)
    for number in (50, 3, 99, 1, 70, 22, 21, 20, 55, 57, 59):
        tree.open(number)
    assert tree.reader.prefetched == []


def test_walk_that_leaves_some_out_is_still_one() -> None:
    """What is passed over is not waited for, and does not count as fetched ahead for ever."""
    tree = Tree(100, 1, file_bytes=500_000)
    found = [tree.open(number) for number in (0, 1, 2, *range(3, 100, 3))]
    assert found == [False] * 3 + [True] * 33
    assert len(tree.reader.prefetched) >= 90


def test_walk_is_fetched_a_bounded_stretch_ahead() -> None:
    """With nobody opening more, fetching ends; each job takes a few megabytes."""
    tree = Tree(1, 100, file_bytes=500_000)
    for number in range(3):
        tree.open(number)
    assert BATCH_BYTES <= 500_000 * len(tree.reader.prefetched) <= MAX_WINDOW_BYTES


def test_two_walks_do_not_disturb_each_other() -> None:
    """Two readers in two places, in turn: both are followed."""
    tree = Tree(2, 100)
    found = [tree.open(number + offset) for number in range(100) for offset in (0, 100)]
    assert found[-180:] == [True] * 180


def test_more_work_than_fits_is_dropped() -> None:
    """With nobody working the queue fills and nothing waits, grows or fails."""
    tree = Tree(1, 1)
    (chunk,) = tree.reader.chunks
    content, _ = tree.reader.put_content([tree.reader.chunks[chunk]])
    long = Entry(name=b"l", size=1 << 40, content=content)
    for _ in range(1000):
        pattern = ReadPattern()
        tree.ahead.read(Content(long, tree.reader), pattern, 0, BLOCK)
        tree.ahead.read(Content(long, tree.reader), pattern, BLOCK, BLOCK)
    assert 0 < len(tree.jobs) < 100
    assert tree.reader.prefetched == []
