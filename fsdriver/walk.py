"""Walks over a snapshot's files: what comes next, what was met, and how far it was fetched."""

import operator
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from agent.model.ids import TreeId
from agent.model.tree import Entry, Kind
from fsdriver.content import Content, ContentReader
from fsdriver.nodes import Pages, Place
from fsdriver.view import MAX_LEVELS

FILES_AHEAD = 512
NEAR_FILES = 64  # so many may be left out at a time
_name = operator.attrgetter("name")
_first = operator.attrgetter("first")
_JOBS = 2  # side by side: decoding is what takes the time, and there are cores


class _Expected(NamedTuple):
    number: int  # in the order of the walk
    content: Content | None  # none before the walk is confirmed

    @property
    def size(self) -> int:
        return self.content.entry.size if self.content else 0


class Walk:
    """Files that somebody opens one after the other, as they lie in the tree.

    `next_files` is for threads, one at a time by a lock; the rest is for the event loop.
    """

    def __init__(self, reader: ContentReader) -> None:
        """Begin with nothing expected."""
        self._reader = reader
        self.met = 0
        self.slots = threading.Semaphore(_JOBS)
        self._ahead = 0  # bytes
        self._expected: OrderedDict[bytes, _Expected] = OrderedDict()
        self._numbers = count()
        self._listed: deque[list[tuple[bytes, Content]]] = deque()
        self._listing = threading.Lock()
        self._entries: Iterator[tuple[bytes, Entry]] | None = None
        self._ended = False

    @property
    def is_confirmed(self) -> bool:
        """Tell whether it is known where it leads."""
        return self._entries is not None

    @property
    def is_starting(self) -> bool:
        """Tell whether it is being followed, and what it will meet is not known yet."""
        return self.is_confirmed and not (self._expected or self._listed or self._ended)

    def confirm(self, places: Sequence[Place], pages: Pages) -> None:
        """Follow it from a file on."""
        self._entries = following(places, pages)

    def wants(self, most_bytes: int) -> bool:
        """Tell whether more should be fetched for it."""
        is_behind = self._ahead <= most_bytes and len(self._expected) < FILES_AHEAD
        return is_behind and not self._ended

    def expect(self, key: bytes, content: Content | None = None) -> None:
        """Expect a file, or whatever lies first in a directory, by tree and name."""
        known = self._expected.get(key)
        if known is not None:
            self._ahead -= known.size
        number = next(self._numbers) if known is None else known.number
        expected = self._expected[key] = _Expected(number, content)
        self._ahead += expected.size

    def is_near(self, key: bytes) -> bool:
        """Tell whether a file is among the next: one far ahead is somebody else's to open."""
        known = self._expected.get(key)
        if known is None:
            return False
        return known.number - next(iter(self._expected.values())).number < NEAR_FILES

    def keys(self) -> list[bytes]:
        """Return all that is expected."""
        return list(self._expected)

    def take(self, key: bytes) -> tuple[list[bytes], Content | None]:
        """Return what was expected up to `key`, now no more, and the content of that file."""
        taken: list[bytes] = []
        content: Content | None = None
        while key in self._expected:
            passed, known = self._expected.popitem(last=False)
            self._ahead -= known.size
            content = known.content
            taken.append(passed)
        return taken, content

    def listed(self) -> Iterator[tuple[bytes, Content]]:
        """Yield key and content of the files that threads have found since the last time."""
        while self._listed:
            yield from self._listed.popleft()

    def next_files(self, most_bytes: int, most_entries: int) -> list[tuple[Content, int]]:
        """Return the next files of the walk, and how many bytes of each fit; may block.

        They are `listed` before they are fetched.
        """
        found: list[tuple[Content, int]] = []
        listed: list[tuple[bytes, Content]] = []
        with self._listing:
            for _ in range(most_entries):
                tree, entry = next(self._entries or iter(()), (b"", None))
                if entry is None:
                    self._ended = True
                    break
                if entry.kind is Kind.FILE:
                    content = Content(entry, self._reader)
                    found.append((content, min(entry.size, most_bytes)))
                    listed.append((tree + entry.name, content))
                    most_bytes -= entry.size
                    if most_bytes <= 0:
                        break
            self._listed.append(listed)
        return found


def following(
    places: Sequence[Place], pages: Pages, *, deep: bool = True
) -> Iterator[tuple[bytes, Entry]]:
    """Yield what a walk meets after a file, with the tree it is in: depth first, names in order.

    `places` begins with the file's own and goes up.  Unless `deep`, no directory is entered.
    """
    for place in places:
        levels = [(place.tree, _entries_after(TreeId(place.tree), place.name, pages, MAX_LEVELS))]
        while levels:
            tree, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                continue
            yield tree, entry
            if deep and entry.kind is Kind.DIRECTORY and entry.tree:
                below = _entries_after(TreeId(entry.tree), b"", pages, MAX_LEVELS)
                levels.append((entry.tree, below))


def _entries_after(tree_id: TreeId, name: bytes, pages: Pages, levels: int) -> Iterator[Entry]:
    page = pages.page(tree_id)
    yield from page.entries[bisect_right(page.entries, name, key=_name) :]
    if levels:
        first = max(0, bisect_right(page.pages, name, key=_first) - 1)
        for ref in page.pages[first:]:
            yield from _entries_after(TreeId(ref.id), name, pages, levels - 1)
