"""Real inotify events on real directories: what becomes dirty, and what is never trusted."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import (
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from agent.backup.dirty import Taken
from agent.backup.watch import NO_WATCHES, SourceWatch

PATIENCE_SECONDS = 120.0  # far above what an event takes; only a failing test waits so long


class Watched:
    """A watched directory, and what became dirty so far."""

    def __init__(self, root: Path) -> None:
        """Watch `root`; the first full scan is taken as done."""
        self.root = root
        self._changed = threading.Event()
        self.watch = SourceWatch(os.fsencode(root), self._changed.set)
        self.watch.start()
        assert self.watch.dirty.take().everything
        self.names: set[bytes] = set()
        self.everything = False

    def until(self, done: Callable[[], bool]) -> None:
        """Gather dirty names until `done`."""
        while True:
            self._changed.clear()
            self.gather(self.watch.dirty.take())
            if done():
                return
            if self.watch.dirty.has_more:
                continue
            assert self._changed.wait(PATIENCE_SECONDS), f"no further event; so far {self.names}"

    def gather(self, taken: Taken) -> None:
        """Note what was taken, as paths."""
        self.everything = self.everything or taken.everything
        for directory, names in taken.names.items():
            if names is None:
                self.names.add(directory + b"/")
                continue
            self.names |= {directory + b"/" + name if directory else name for name in names}

    def sees(self, *names: bytes) -> None:
        """Wait until all of `names` became dirty."""
        self.until(lambda: self.names >= set(names))

    def sees_next(self, name: bytes) -> None:
        """Wait until `name`, or all of its directory, became dirty after what was seen so far."""
        directory = name.rpartition(b"/")[0] + b"/"
        self.names.clear()
        self.until(lambda: bool(self.names & {name, directory}))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Watch a directory with one subdirectory, `d`, that holds the file `old`."""
    root = tmp_path / "source"
    (root / "d").mkdir(parents=True)
    (root / "d" / "old").write_bytes(b"old")
    watched = Watched(root)
    yield watched
    watched.watch.stop()


def test_every_kind_of_change_is_noticed_by_name(watched: Watched) -> None:
    """Writing, appending, metadata, deletion, links and special files, in old directories."""
    d = watched.root / "d"
    (d / "new").write_bytes(b"1")
    with (d / "old").open("ab") as file:
        file.write(b"more")
    os.symlink("x", d / "link")
    os.mkfifo(d / "fifo")
    watched.sees(b"d/new", b"d/old", b"d/link", b"d/fifo")
    watched.names.clear()
    (d / "new").chmod(0o600)
    (d / "link").unlink()
    os.setxattr(d / "old", "user.a", b"b")
    watched.sees(b"d/new", b"d/link", b"d/old")


def test_names_that_are_no_text_are_kept_as_they_are(watched: Watched) -> None:
    """Bytes that are not UTF-8, and newlines, come through."""
    for name in (b"\xff\xfe", b"new\nline", b"n" * 255):
        Path(os.fsdecode(os.fsencode(watched.root) + b"/d/" + name)).write_bytes(b"")
    watched.sees(b"d/\xff\xfe", b"d/new\nline", b"d/" + b"n" * 255)


def test_a_new_directory_is_watched_and_looked_at_twice(watched: Watched) -> None:
    """Files made in it later have events of their own."""
    (watched.root / "a" / "b").mkdir(parents=True)
    (watched.root / "a" / "b" / "early").write_bytes(b"")
    watched.sees(b"a", b"a/")
    watched.gather(watched.watch.dirty.take())
    (watched.root / "a" / "b" / "late").write_bytes(b"")
    watched.sees_next(b"a/b/late")


def test_both_ends_of_a_move_are_dirty_and_the_moved_directory_stays_watched(
    watched: Watched,
) -> None:
    """A directory that moves within the source is found at its new place, also afterwards."""
    (watched.root / "d").rename(watched.root / "e")
    watched.sees(b"d", b"e", b"e/")
    (watched.root / "e" / "new").write_bytes(b"")
    watched.sees_next(b"e/new")


def test_what_moves_in_or_out_is_dirty(watched: Watched, tmp_path: Path) -> None:
    """The half of a move that we see is enough."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"")
    (tmp_path / "outside").rename(watched.root / "in")
    (watched.root / "d").rename(tmp_path / "out")
    watched.sees(b"in", b"d")


def test_reading_is_no_event(watched: Watched) -> None:
    """Our own reading of a file must not cause the next snapshot."""
    assert (watched.root / "d" / "old").read_bytes() == b"old"
    list((watched.root / "d").iterdir())
    (watched.root / "mark").write_bytes(b"")
    watched.sees(b"mark")
    assert watched.names == {b"mark"}


def test_an_overflow_makes_everything_dirty(watched: Watched) -> None:
    """When the kernel dropped events nothing is trusted; what comes later is noticed again."""
    observer = watched.watch._observer
    assert observer is not None
    overflow = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
    observer._inotify.handle_event(overflow)
    watched.until(lambda: watched.everything)
    (watched.root / "d" / "later").write_bytes(b"")
    watched.sees(b"d/later")


def test_no_watches_left_is_a_problem_that_says_what_to_do(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that cannot be watched makes everything dirty, and is not kept silent."""
    real = InotifyFD._get_or_create_watch

    def scarce(self: InotifyFD, path: bytes, mask: Mask) -> object:
        if path.endswith(b"/unlucky"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return real(self, path, mask)

    monkeypatch.setattr(InotifyFD, "_get_or_create_watch", scarce)
    (watched.root / "unlucky").mkdir()
    watched.until(lambda: watched.everything)
    assert watched.watch.problem == NO_WATCHES


def test_no_watch_on_the_source_itself_is_a_problem_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is then scanned, and its status says why."""

    def none_left(*_: object) -> object:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "_get_or_create_watch", none_left)
    watch = SourceWatch(os.fsencode(tmp_path), lambda: None)
    watch.start()
    assert watch.problem == NO_WATCHES
    assert watch.dirty.take().everything
    watch.stop()


def test_a_replaced_source_is_noticed_and_watched_anew(watched: Watched) -> None:
    """Another directory at the same path is another source, until it is watched again."""
    current = [watched.watch.is_current]
    watched.root.rename(watched.root.with_name("away"))
    current.append(watched.watch.is_current)
    (watched.root / "x").mkdir(parents=True)
    current.append(watched.watch.is_current)
    watched.watch.start()
    current.append(watched.watch.is_current)
    assert current == [True, False, False, True]
    watched.gather(watched.watch.dirty.take())
    (watched.root / "x" / "file").write_bytes(b"")
    watched.sees_next(b"x/file")


def test_a_missing_source_is_waited_for(tmp_path: Path) -> None:
    """Nothing is watched, nothing fails; once it is there it can be watched."""
    watch = SourceWatch(os.fsencode(tmp_path / "later"), lambda: None)
    watch.start()
    current = [watch.is_current]
    (tmp_path / "later").mkdir()
    current.append(watch.is_current)
    assert current == [True, False]
    assert watch.problem == ""
    watch.stop()


def test_a_watch_whose_thread_has_died_is_not_trusted(watched: Watched) -> None:
    """Events that nobody reads are missed: the source is watched anew."""
    observer = watched.watch._observer
    assert observer is not None
    observer._inotify.stop()
    observer._inotify.join()
    assert not watched.watch.is_current


def test_watchdog_logs_nothing_for_its_lines_hold_paths() -> None:
    """Names of patients' directories must not reach the journal of the system."""
    assert not logging.getLogger("watchdog.observers.inotify").isEnabledFor(logging.CRITICAL)
