"""Reading a file that does not hold still, or is not what it was: never torn, never passed off."""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.backup.holes import MIN_HOLE_BYTES, stretches
from agent.backup.listing import Found
from agent.backup.read import BUFFER_BYTES, TRIES, FileReader
from agent.backup.small import RACY_NS
from agent.crypto.naming import IdKey, object_name
from agent.encode.chunker import MAX_CHUNK_BYTES, Chunker
from agent.model.ids import TreeId
from agent.model.tree import Entry, Flaw, Kind, unpack_extents
from tests.fakes.clock import FakeClock
from tests.fakes.ticks import show_change
from tests.unit.test_cuts import native, written

IDS = IdKey(bytes(range(32)))


class MemorySink:
    """Keeps chunks and pages; calls `before_chunk` when one comes."""

    def __init__(self) -> None:
        """Start empty."""
        self.chunks: dict[bytes, bytes] = {}
        self.likely: set[int] = set()
        self.before_chunk: Callable[[], None] = lambda: None

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Keep a chunk."""
        self.before_chunk()
        self.likely.add(likely)
        id_ = IDS.chunk_id(data)
        self.chunks[id_] = bytes(data)
        return id_

    def page(self, page: bytes) -> TreeId:
        """Keep a page."""
        return IDS.tree_id(page)


class Reading:
    """A directory, and a reader that reads from it."""

    def __init__(self, root: Path) -> None:
        """Open `root`; the clock stands a minute after now."""
        self.root = root
        self.fd = os.open(root, os.O_RDONLY)
        self.sink = MemorySink()
        self.clock = FakeClock()
        self.clock.set_wall(root.stat().st_ctime_ns + 60_000_000_000)
        self.waited: list[float] = []
        self.breaths = 0
        self.reader = FileReader(
            Chunker(IDS.cut_seed), self.sink, self.clock, self._breathe, self.waited.append
        )

    def _breathe(self) -> None:
        self.breaths += 1

    def found(self, name: str) -> Found:
        """Return what a listing would have found."""
        return Found(os.fsencode(name), os.lstat(self.root / name))

    def read(self, name: str, found: Found | None = None) -> Entry | None:
        """Read it."""
        found = found or self.found(name)
        return self.reader.read(self.fd, found, os.fstat(self.fd).st_dev)

    def whole(self, entry: Entry) -> bytes:
        """Return an entry's content."""
        return b"".join(
            bytes(extent.length) if extent.is_hole else self.sink.chunks[extent.id]
            for extent in unpack_extents(entry.content)
        )


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Return a reading of an empty directory."""
    reading = Reading(tmp_path)
    yield reading
    os.close(reading.fd)


def test_a_file_that_changes_once_while_it_is_read_is_read_again(reading: Reading) -> None:
    """The second try finds it at rest: the entry is of the new state alone."""
    path = reading.root / "f"
    path.write_bytes(b"before")

    def rewrite() -> None:
        reading.sink.before_chunk = lambda: None
        path.write_bytes(b"after, and longer")

    reading.sink.before_chunk = rewrite
    entry = reading.read("f")
    assert entry is not None
    assert (entry.flaw, reading.whole(entry)) == (Flaw.NONE, b"after, and longer")
    assert entry.digest == object_name(b"after, and longer")


@pytest.mark.parametrize(("frames", "padding"), [(1, 0), (20, BUFFER_BYTES)])
def test_what_a_header_says_of_its_pixels_goes_with_every_chunk(
    reading: Reading, frames: int, padding: int
) -> None:
    """Whether a file is read in one piece or in many; of the next file nothing is said."""
    image = native(256, 256, frames)
    image.PixelData += bytes(padding)
    (reading.root / "image").write_bytes(written(image))
    (reading.root / "text").write_bytes(b"text" * 100_000)
    assert reading.read("image") is not None
    assert reading.sink.likely == {2}
    reading.sink.likely.clear()
    assert reading.read("text") is not None
    assert reading.sink.likely == {0}


@pytest.mark.parametrize("size", [10, BUFFER_BYTES + 10])
def test_a_file_that_never_holds_still_is_marked(reading: Reading, size: int) -> None:
    """After the last try the entry says that it may be torn; its sizes still add up."""
    path = reading.root / "f"
    path.write_bytes(bytes(size))
    changes = 0

    def append() -> None:
        nonlocal changes
        changes += 1
        before = path.stat()
        with path.open("ab") as file:
            file.write(b"more")
        show_change(path, before.st_ctime_ns)

    reading.sink.before_chunk = append
    entry = reading.read("f")
    assert entry is not None
    assert entry.flaw is Flaw.CHANGED_WHILE_READ
    assert changes >= TRIES
    assert len(reading.whole(entry)) == entry.size
    assert object_name(reading.whole(entry)) == entry.digest
    assert entry.ctime_ns != path.stat().st_ctime_ns  # so the next look sees a change


@pytest.mark.parametrize("size", [1000, BUFFER_BYTES + MAX_CHUNK_BYTES])
def test_a_file_cut_short_while_it_is_read_adds_up(reading: Reading, size: int) -> None:
    """A truncation ends the content where the file ends, and is never padded."""
    path = reading.root / "f"
    path.write_bytes(os.urandom(size))
    reading.sink.before_chunk = lambda: os.truncate(path, 500)
    entry = reading.read("f")
    assert entry is not None
    assert len(reading.whole(entry)) == entry.size
    assert entry.size == 500
    assert reading.whole(entry) == path.read_bytes()


def test_a_file_changed_a_moment_ago_waits_for_the_clock_to_tick(reading: Reading) -> None:
    """A later change must get a later ctime, or it would never be seen."""
    (reading.root / "f").write_bytes(b"x")
    ctime = reading.found("f").stat.st_ctime_ns
    reading.clock.set_wall(ctime + RACY_NS // 4)
    reading.read("f")
    assert reading.waited == [pytest.approx(RACY_NS * 0.75 / 1e9)]
    reading.clock.set_wall(ctime + RACY_NS)
    reading.read("f")
    assert len(reading.waited) == 1


def test_a_ctime_in_the_future_is_not_waited_for(reading: Reading) -> None:
    """A clock that was set back must not stop the backup."""
    (reading.root / "f").write_bytes(b"x")
    reading.clock.set_wall(0)
    assert reading.read("f") is not None
    assert reading.waited == []


def test_a_link_in_place_of_a_file_is_not_followed(reading: Reading) -> None:
    """Swapped between listing and reading: the entry is of the link."""
    (reading.root / "secret").write_bytes(b"secret")
    (reading.root / "f").write_bytes(b"x")
    found = reading.found("f")
    (reading.root / "f").unlink()
    (reading.root / "f").symlink_to("secret")
    entry = reading.read("f", found)
    assert entry is not None
    assert (entry.kind, entry.target, entry.content) == (Kind.SYMLINK, b"secret", b"")
    assert reading.sink.chunks == {}


def test_a_pipe_in_place_of_a_file_does_not_hang(reading: Reading) -> None:
    """Nobody writes to it, and nobody needs to."""
    (reading.root / "f").write_bytes(b"x")
    found = reading.found("f")
    (reading.root / "f").unlink()
    os.mkfifo(reading.root / "f")
    entry = reading.read("f", found)
    assert entry is not None
    assert entry.kind is Kind.FIFO


def test_a_directory_or_nothing_in_place_of_a_file_is_left_to_the_next_scan(
    reading: Reading,
) -> None:
    """Neither is an entry of a file."""
    (reading.root / "f").write_bytes(b"x")
    found = reading.found("f")
    (reading.root / "f").unlink()
    assert reading.read("f", found) is None
    (reading.root / "f").mkdir()
    assert reading.read("f", found) is None


def test_a_file_that_may_not_be_opened_keeps_its_metadata(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No right to read: what is known is kept, and the entry says what is missing."""
    (reading.root / "f").write_bytes(b"x")
    (reading.root / "f").chmod(0o640)
    found = reading.found("f")
    real = os.open

    def refuse(path: bytes, flags: int, *, dir_fd: int) -> int:
        if path == b"f":
            raise PermissionError(errno.EACCES, "denied")
        return real(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    entry = reading.read("f", found)
    assert entry is not None
    assert (entry.flaw, entry.mode, entry.size) == (Flaw.UNREADABLE, 0o640, 0)


def test_long_files_let_others_breathe(reading: Reading) -> None:
    """Between the pieces of a long file a run can be cancelled, also within a hole."""
    with (reading.root / "f").open("wb") as file:
        file.truncate(3 * BUFFER_BYTES)
        file.seek(3 * BUFFER_BYTES)
        file.write(os.urandom(2 * BUFFER_BYTES))
    entry = reading.read("f")
    assert entry is not None
    assert reading.breaths >= 3
    assert reading.whole(entry) == (reading.root / "f").read_bytes()


def test_short_holes_count_as_data_and_all_stretches_join(tmp_path: Path) -> None:
    """Stretches cover the file without gap or overlap; only long holes are holes."""
    path = tmp_path / "f"
    with path.open("wb") as file:
        for offset in (0, 8192, 4 * MIN_HOLE_BYTES, 9 * MIN_HOLE_BYTES):
            file.seek(offset)
            file.write(b"x" * 4096)
        file.truncate(12 * MIN_HOLE_BYTES + 5)
    fd = os.open(path, os.O_RDONLY)
    found = stretches(fd, os.fstat(fd))
    os.close(fd)
    assert found[0][0] == 0
    assert found[-1][1] == path.stat().st_size
    assert all(left[1] == right[0] for left, right in pairwise(found))
    assert [is_hole for _, _, is_hole in found] == [False, True, False, True, False, True]
