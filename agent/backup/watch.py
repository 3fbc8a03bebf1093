"""Watching sources: inotify events, by watchdog, become dirty names.  Events are hints, no truth.

What cannot be trusted is looked at whole: after an overflow, after a source was replaced or
mounted over, and where the kernel has no watches left.  The only importer of watchdog, whose log
lines hold paths and therefore go nowhere.
"""

import errno
import logging
import os
import stat
from collections.abc import Callable
from typing import Final, NamedTuple

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from agent.backup.dirty import DirtySet

_EVENTS: Final[list[type[FileSystemEvent]]] = [
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]  # not opening and reading: our own reading would be an event
_EXHAUSTED: Final = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENOMEM})
NO_WATCHES: Final = "the kernel has no inotify watches left: raise fs.inotify.max_user_watches"

logging.getLogger("watchdog").setLevel(logging.CRITICAL + 1)


class Identity(NamedTuple):
    """Which directory a path leads to."""

    device: int
    inode: int


class SourceWatch:
    """The watch on one source.  `problem` says why events are missed, if they are."""

    def __init__(self, path: bytes, on_change: Callable[[], None]) -> None:
        """Take the source's path; `on_change` is called, from any thread, when names get dirty."""
        self.dirty = DirtySet()
        self.problem = ""
        self._path = path
        self._prefix = path.rstrip(b"/") + b"/"
        self._on_change = on_change
        self._observer: _Observer | None = None
        self._identity: Identity | None = None

    @property
    def is_current(self) -> bool:
        """Tell whether what lies at the source's path is still what is watched, and by whom.

        A thread of watchdog's that met what it did not expect has ended: then it is not.
        """
        works = self._observer is None or self._observer.works
        return works and self._identity == identity(self._path)

    def start(self) -> None:
        """Watch the source as it is now, all of it; blocks while watches are added.

        Everything is dirty afterwards.  Where it is missing, nothing is watched.
        """
        self.stop()
        self.problem = ""
        self._identity = identity(self._path)
        if self._identity is not None:
            try:
                self._observer = self._started()
            except OSError as error:
                self.problem = _problem(error)
        self.dirty.add_everything()

    def stop(self) -> None:
        """Stop watching; blocks until the threads have ended."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def lost_events(self) -> None:
        """Take note that the kernel dropped events: everything may have changed."""
        self.dirty.add_everything()
        self._on_change()

    def ran_out(self) -> None:
        """Take note that a directory could not be watched."""
        self.problem = NO_WATCHES
        self.lost_events()

    def changed(self, path: bytes, *, is_new_directory: bool = False) -> None:
        """Take note of an event about the absolute `path`."""
        if path == self._path:
            self.dirty.add(b"")
        elif path.startswith(self._prefix):
            below = path[len(self._prefix) :]
            if is_new_directory:
                self.dirty.add_new(below)
            else:
                self.dirty.add(below)
        else:
            return
        self._on_change()

    def _started(self) -> "_Observer":
        observer = _Observer(self)
        try:
            observer.schedule(
                _Handler(self), os.fsdecode(self._path), recursive=True, event_filter=_EVENTS
            )
            observer.start()
        except BaseException:
            observer.abandon()
            raise
        return observer


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events into paths."""

    def __init__(self, watch: SourceWatch) -> None:
        self._watch = watch

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.is_synthetic:
            return  # what lies in a directory that moved: it is walked as a whole
        is_new = event.is_directory and isinstance(event, DirCreatedEvent)
        self._watch.changed(os.fsencode(event.src_path), is_new_directory=is_new)
        if event.dest_path:
            self._watch.changed(os.fsencode(event.dest_path), is_new_directory=event.is_directory)


class _Inotify(InotifyFD):
    """An inotify instance that tells when it lost events, or has no more watches."""

    def __init__(self, watch: SourceWatch) -> None:
        self._told = watch
        super().__init__()

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:  # which watchdog passes over, below the source itself
            if error.errno in _EXHAUSTED:
                self._told.ran_out()
            raise

    def _add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Do as watchdog does, but not warn, with a path, of a directory that is watched already.

        That is what a new directory is when it is found by its event and by a walk.
        """
        watch = self._get_or_create_watch(path, mask)
        watch.callbacks[id_] = callback
        return watch.wd

    def _remove_callback(self, wd: WatchDescriptor, id_: CallbackId) -> None:
        """Remove what is there; watchdog would warn, with a path, of what is not."""
        watch = self._watch_for_wd.get(wd)
        if watch is not None and id_ in watch.callbacks:
            super()._remove_callback(wd, id_)

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:
            self._told.lost_events()


class _Observer(BaseObserver):
    """watchdog's observer, with an inotify instance of our own."""

    def __init__(self, watch: SourceWatch) -> None:
        self._inotify = _Inotify(watch)
        self._inotify.start()
        super().__init__(InotifyEmitter, inotify_fd=self._inotify)

    @property
    def works(self) -> bool:
        """Tell whether all threads are alive."""
        threads = (self, self._inotify, *self.emitters)
        return all(thread.is_alive() for thread in threads)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._inotify.stop()
        self._inotify.join()

    def abandon(self) -> None:
        """Stop what was started before the observer itself."""
        self.on_thread_stop()


def identity(path: bytes) -> Identity | None:
    """Return which directory lies at `path`, or None where there is none, or a link."""
    try:
        st = os.lstat(path)
    except OSError:
        return None
    return Identity(st.st_dev, st.st_ino) if stat.S_ISDIR(st.st_mode) else None


def _problem(error: OSError) -> str:
    if error.errno in _EXHAUSTED:
        return NO_WATCHES
    return f"the source cannot be watched: {error.strerror}"
