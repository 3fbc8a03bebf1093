"""Small files read together: the same entries that the careful reader makes, or none at all."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from agent.backup import small
from agent.backup.listing import Found, list_directory, xattrs
from agent.backup.read import FileReader
from agent.backup.small import (
    AHEAD_FILES,
    AHEAD_READS,
    GROUP_BYTES,
    RACY_NS,
    SMALL_BYTES,
    SmallFiles,
)
from agent.crypto.naming import IdKey
from agent.encode.chunker import Chunker
from agent.model.ids import TreeId
from agent.model.tree import Entry
from tests.fakes.clock import FakeClock
from tests.fakes.ticks import show_change

IDS = IdKey(bytes(range(32)))
Attributes = tuple[tuple[bytes, bytes], ...]


class MemorySink:
    """Keeps what comes, and how it came."""

    def __init__(self) -> None:
        """Start empty."""
        self.calls: list[int] = []
        self.stored: dict[bytes, bytes] = {}

    def chunks(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Keep many."""
        self.calls.append(len(pieces))
        return [self.chunk(memoryview(piece)) for piece in pieces]

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Keep one."""
        id_ = IDS.chunk_id(data)
        self.stored[id_] = bytes(data)
        return id_

    def page(self, page: bytes) -> TreeId:
        """Name a page."""
        return IDS.tree_id(page)


class Reading:
    """A directory, and both ways to read it; the clock stands a minute after now."""

    def __init__(self, root: Path) -> None:
        """Open `root`."""
        self.root = root
        self.fd = os.open(root, os.O_RDONLY)
        self.device = os.fstat(self.fd).st_dev
        self.clock = FakeClock()
        self.clock.set_wall(root.stat().st_ctime_ns + 60_000_000_000)
        self.sink = MemorySink()
        self.small = SmallFiles(self.sink.chunks, self.clock)

    def read(self, found: list[Found] | None = None) -> dict[bytes, Entry]:
        """Return what is read together."""
        found = list_directory(self.fd) if found is None else found
        return {entry.name: entry for entry in self.small.read(self.fd, found, self.device)}

    def carefully(self, name: bytes) -> Entry | None:
        """Return what the reader of single files makes of one."""
        reader = FileReader(Chunker(IDS.cut_seed), self.sink, self.clock, lambda: None)
        (found,) = (one for one in list_directory(self.fd) if one.name == name)
        return reader.read(self.fd, found, self.device)


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Return a reading of an empty directory."""
    reading = Reading(tmp_path)
    yield reading
    os.close(reading.fd)


def test_entries_are_those_that_the_careful_reader_makes(reading: Reading) -> None:
    """Content, digest and every attribute; an empty file and a hard link among them."""
    for name, data in {"empty": b"", "one": b"1", "full": bytes(SMALL_BYTES)}.items():
        (reading.root / name).write_bytes(data)
    (reading.root / "one").chmod(0o4751)
    os.setxattr(reading.root / "one", "user.b", b"2")
    os.setxattr(reading.root / "one", "user.a", b"1")
    os.link(reading.root / "one", reading.root / "other")
    os.utime(reading.root / "one", ns=(1, -1))
    entries = reading.read()
    assert entries.keys() == {b"empty", b"one", b"full", b"other"}
    assert all(entry == reading.carefully(name) for name, entry in entries.items())
    assert entries[b"other"].links == 2


def test_contents_are_stored_in_groups_of_bounded_size(reading: Reading) -> None:
    """However many files there are, what is held at once is a megabyte and one file."""
    for number in range(2 * GROUP_BYTES // SMALL_BYTES + 1):
        (reading.root / str(number)).write_bytes(bytes([number]) * SMALL_BYTES)
    assert len(reading.read()) == sum(reading.sink.calls)
    assert max(reading.sink.calls) == GROUP_BYTES // SMALL_BYTES


def _link(path: Path) -> None:
    path.symlink_to("elsewhere")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _large(path: Path) -> None:
    path.write_bytes(bytes(SMALL_BYTES + 1))


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, SMALL_BYTES)


def _image(path: Path) -> None:
    path.write_bytes(bytes(128) + b"DICM")


@pytest.mark.parametrize("make", [_link, _fifo, _directory, _large, _sparse, _image])
def test_what_is_odd_is_left_to_the_careful_reader(
    reading: Reading, make: Callable[[Path], None]
) -> None:
    """Also where the listing had seen a plain small file in its place."""
    plain = reading.root / "f"
    plain.write_bytes(b"plain")
    seen = list_directory(reading.fd)
    plain.unlink()
    make(plain)
    assert not reading.read(seen)
    assert not reading.sink.stored


def test_what_went_is_left_to_the_careful_reader(reading: Reading) -> None:
    """It has no entry here."""
    plain = reading.root / "f"
    plain.write_bytes(b"plain")
    seen = list_directory(reading.fd)
    plain.unlink()
    assert not reading.read(seen)


@pytest.mark.parametrize("age_ns", [-RACY_NS, 0, RACY_NS - 1])
def test_a_file_changed_just_now_is_left_to_the_careful_reader(
    reading: Reading, age_ns: int
) -> None:
    """Within one tick of the kernel's clock a later change would not show; it knows how to wait."""
    path = reading.root / "f"
    path.write_bytes(b"new")
    reading.clock.set_wall(path.stat().st_ctime_ns + age_ns)
    assert not reading.read()
    reading.clock.set_wall(path.stat().st_ctime_ns + RACY_NS)
    assert reading.read()


@pytest.mark.parametrize("data", [b"changed", b"longer than before", b""])
def test_a_file_that_changes_while_it_is_read_is_left_to_the_careful_reader(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Nothing of the torn state is stored."""
    path = reading.root / "f"
    path.write_bytes(b"content")

    def changing(fd: int) -> Attributes:
        before = os.fstat(fd)
        path.write_bytes(data)
        show_change(path, before.st_ctime_ns)
        return ()

    monkeypatch.setattr(small, "xattrs", changing)
    assert not reading.read()
    assert not reading.sink.stored


def test_where_a_disk_is_waited_for_it_is_asked_ahead(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries are the same, the next directories' files are asked for, and then no more."""
    for number in range(AHEAD_FILES + 10):
        (reading.root / f"{number:03}").write_bytes(b"%d" % number)
    (reading.root / "pipe").mkdir()
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: asked.append(fd))
    blocks = iter([0, 8 * AHEAD_FILES])  # of the first reading alone
    monkeypatch.setattr(small, "_blocks_fetched", lambda: next(blocks, 8 * AHEAD_FILES))
    before = len(os.listdir("/proc/self/fd"))
    first = reading.read()
    assert not asked
    assert reading.read() == first
    assert len(asked) == AHEAD_FILES + 10 + 1
    assert len(first) == AHEAD_FILES + 10
    for _ in range(AHEAD_READS):
        reading.read()
    asked.clear()
    reading.read()
    assert not asked
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_lies_in_memory_is_not_asked_for_however_often_the_thread_waits(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads wait for each other: that says nothing of a disk."""
    for number in range(AHEAD_FILES):
        (reading.root / str(number)).write_bytes(b"new")  # written just now: in the page cache
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: asked.append(fd))

    def waiting(fd: int) -> Attributes:
        Event().wait(0.0001)
        return xattrs(fd)

    monkeypatch.setattr(small, "xattrs", waiting)
    assert len(reading.read()) == AHEAD_FILES
    assert len(reading.read()) == AHEAD_FILES
    assert not asked


def test_files_opened_ahead_are_closed_when_nobody_reads_on(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is cancelled leaves no descriptor behind."""
    for number in range(AHEAD_FILES):
        (reading.root / str(number)).write_bytes(bytes(SMALL_BYTES))
    monkeypatch.setattr(small, "_blocks_fetched", iter([0, 8 * AHEAD_FILES, 0]).__next__)
    reading.read()
    before = len(os.listdir("/proc/self/fd"))
    entries = reading.small.read(reading.fd, list_directory(reading.fd), reading.device)
    next(entries)
    assert len(os.listdir("/proc/self/fd")) > before
    del entries
    assert len(os.listdir("/proc/self/fd")) == before
