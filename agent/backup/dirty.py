"""What may have changed below one source: collected by one thread, taken by another."""

import threading
from typing import NamedTuple

MAX_NAMES = 4096  # of one directory: more, and it is listed
MAX_DIRECTORIES = 16 * 1024  # of one source: more, and all of it is scanned; bounds the memory


class Taken(NamedTuple):
    """What was collected: everything, or some directories with names, or None for all of them."""

    everything: bool
    names: dict[bytes, frozenset[bytes] | None]

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was collected."""
        return not (self.everything or self.names)


class DirtySet:
    """The dirty names of one source.  Thread-safe; bounded."""

    def __init__(self) -> None:
        """Start with nothing dirty."""
        self._lock = threading.RLock()
        self._everything = False
        self._names: dict[bytes, set[bytes] | None] = {}
        self._new: set[bytes] = set()

    def add(self, path: bytes) -> None:
        """Note that what lies at `path`, below the source, may have changed.

        An empty path is the source's own directory, which every run looks at.
        """
        parent, _, name = path.rpartition(b"/")
        with self._lock:
            if self._everything or not self._has_room(parent):
                return
            names = self._names.setdefault(parent, set())
            if names is None or not path:
                return
            names.add(name)
            if len(names) > MAX_NAMES:
                self._names[parent] = None

    def add_new(self, path: bytes) -> None:
        """Note a new directory: it is looked at now, and once more after that.

        What was put into it before it was watched made no event; the first look may have come
        before that too, the second cannot.
        """
        with self._lock:
            self.add(path)
            if len(self._new) < MAX_DIRECTORIES:
                self._new.add(path)
            else:
                self._all()

    def add_everything(self) -> None:
        """Note that anything may have changed: events were lost."""
        with self._lock:
            self._all()

    def take(self) -> Taken:
        """Return what was collected, and start over with the second look at new directories."""
        with self._lock:
            taken = Taken(
                self._everything,
                {
                    path: None if names is None else frozenset(names)
                    for path, names in self._names.items()
                },
            )
            self._everything = False
            self._names = dict.fromkeys(self._new)
            self._new = set()
            return taken

    @property
    def has_more(self) -> bool:
        """Tell whether anything waits to be taken."""
        with self._lock:
            return self._everything or bool(self._names)

    def _has_room(self, parent: bytes) -> bool:
        if parent not in self._names and len(self._names) >= MAX_DIRECTORIES:
            self._all()
            return False
        return True

    def _all(self) -> None:
        self._everything = True
        self._names = {}
        self._new = set()
