"""Reading ahead: for who reads in sequence, and for nobody else."""

from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.crypto.naming import IdKey
from agent.model.tree import Entry, Kind
from fsdriver.ahead import (
    FIRST_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    OpenPattern,
    ReadAhead,
    ReadPattern,
    StoredPattern,
)
from fsdriver.content import Content
from fsdriver.nodes import Node
from fsdriver.view import View
from tests.fakes.tree_reader import ID_KEY, TreeReaderFake

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


def test_packs_read_in_the_order_of_writing_are_fetched_ahead() -> None:
    """The third frame in order starts it; what was fetched is not asked for again."""
    pattern = StoredPattern()
    assert [pattern.note(frame) for frame in (4, 5)] == [False, False]
    assert pattern.note(6)
    pattern.fetched = 12
    assert [pattern.note(frame) for frame in (7, 8, 8, 10)] == [False] * 4
    assert pattern.note(11)


def test_packs_read_here_and_there_are_not() -> None:
    """Random access, and going back, cost what was asked for."""
    pattern = StoredPattern()
    assert not any(pattern.note(frame) for frame in (9, 2, 30, 7, 80, 3, 3, 50))


def test_files_opened_in_order_are_a_sequence_and_others_are_not() -> None:
    """The third in order starts it; an earlier name stops it."""
    pattern = OpenPattern()
    assert not pattern.note(Entry(name=b"b", size=1))
    assert pattern.note(Entry(name=b"c", size=1))
    assert pattern.note(Entry(name=b"d", size=1))
    assert not pattern.note(Entry(name=b"a", size=1))


@pytest.fixture
def images() -> tuple[TreeReaderFake, View, Node]:
    """Return a directory of 100 files of one chunk each."""
    reader = TreeReaderFake()
    entries = []
    for number in range(100):
        content, depth = reader.put_content([b"%04d" % number * 1000])
        entries.append(Entry(name=b"%04d" % number, size=4000, content=content, depth=depth))
    source = Entry(name=b"s", kind=Kind.DIRECTORY, tree=reader.put_directory(entries))
    view = View(
        [reader.snapshot([source], taken_ns=1)], 2**62, IdKey(ID_KEY), lambda moment: moment
    )
    latest = view.lookup(view.root, b"latest", reader)
    return reader, view, view.lookup(latest, b"s", reader)


async def settled() -> None:
    """Wait until the threads have done what they were given."""
    await trio.to_thread.run_sync(lambda: None)
    await wait_all_tasks_blocked(0.01)


async def test_next_files_of_a_directory_are_fetched(
    images: tuple[TreeReaderFake, View, Node], nursery: trio.Nursery
) -> None:
    """After two files in order the following ones are in memory, each fetched once."""
    reader, view, directory = images
    ahead = ReadAhead(view, reader, reader, 1 << 20)
    nursery.start_soon(ahead.run)
    for number in range(3):
        ahead.opened(directory, view.lookup(directory, b"%04d" % number, reader).entry)
        await settled()
    # one a digest names: chunks are in the order of the files
    expected = [reader.ids.chunk_id(b"%04d" % number * 1000) for number in range(2, 100)]
    assert reader.prefetched == expected


async def test_small_files_are_fetched_many_at_a_time(
    images: tuple[TreeReaderFake, View, Node],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred opens in order: two jobs for a thread, and none once nothing follows."""
    reader, view, directory = images
    ahead = ReadAhead(view, reader, reader, 1 << 20)
    nursery.start_soon(ahead.run)
    calls: list[int] = []
    monkeypatch.setattr(reader, "prefetch", lambda ids: calls.append(len(ids)))
    for number in range(100):
        ahead.opened(directory, view.lookup(directory, b"%04d" % number, reader).entry)
        await settled()
    assert calls == [98, 0]


async def test_files_opened_in_no_order_are_not_followed(
    images: tuple[TreeReaderFake, View, Node], nursery: trio.Nursery
) -> None:
    """Looking at single images costs single images."""
    reader, view, directory = images
    ahead = ReadAhead(view, reader, reader, 1 << 20)
    nursery.start_soon(ahead.run)
    for name in (b"0050", b"0003", b"0099", b"0001"):
        ahead.opened(directory, view.lookup(directory, name, reader).entry)
        await settled()
    assert reader.prefetched == []


async def test_more_work_than_fits_is_dropped(images: tuple[TreeReaderFake, View, Node]) -> None:
    """With nobody working the queue fills and nothing waits, grows or fails."""
    reader, view, directory = images
    ahead = ReadAhead(view, reader, reader, 1 << 20)
    entry = view.lookup(directory, b"0000", reader).entry
    long = Entry(name=b"l", size=1 << 40, content=entry.content)
    for _ in range(1000):
        pattern = ReadPattern()
        ahead.read(Content(long, reader), pattern, 0, BLOCK)
        ahead.read(Content(long, reader), pattern, BLOCK, BLOCK)
    assert reader.prefetched == []
