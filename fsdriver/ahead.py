"""Reading ahead: who reads in sequence gets the next bytes fetched before asking.

Two patterns: through one file; and through files as a walk over directories meets them, depth
first and in the order of names, whether there are many in a directory or, as in a PACS, one or
two in each.  Anything else costs ranged reads of exactly what was asked.  What is fetched is
decoded and checked in threads, so that the answer is there when the kernel asks.  Work that does
not fit the queue is dropped: it is a hint, and errors wait for the real read.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from agent.errors import VitrineError
from agent.model.ids import ChunkId
from agent.model.tree import Kind
from fsdriver.cache import NotCached
from fsdriver.content import Content, ContentReader
from fsdriver.nodes import Pages, Place
from fsdriver.walk import Walk, following

MiB = 1024 * 1024
FIRST_WINDOW_BYTES = 2 * MiB
MAX_WINDOW_BYTES = 16 * MiB  # 0.1 s at a slow disk's pace; bounds what a wrong guess costs
SLACK_BYTES = MiB  # the kernel's own read-ahead may ask out of order by this much
BATCH_BYTES = 4 * MiB  # of one thread's work for a walk, two of which are under way
BATCH_STEPS = 256  # entries that it looks at: bounds a tree of empty directories
CONFIRMED_AFTER = 2  # met as expected so often: a walk, and no chance
AT_HAND_BYTES = MiB  # of small files whose bytes are put beside, so that an open finds them at once
FOLLOWED_WALKS = 8
WORKERS = 2
_QUEUE = 16

Job = Callable[[], None]
Start = Callable[[Job], object]
"""Do a job in a thread, soon."""


@dataclass(slots=True)
class ReadPattern:
    """How one open file is read, and how far ahead its bytes were asked for."""

    expected: int = 0
    fetched: int = 0
    window: int = FIRST_WINDOW_BYTES

    def note(self, offset: int, size: int) -> tuple[int, int]:
        """Take note of a read; return (offset, bytes) to fetch now, or (0, 0)."""
        begins = not offset and not self.expected
        sequential = abs(offset - self.expected) <= SLACK_BYTES and self.expected > 0
        self.expected = offset + size
        if begins:
            return 0, 0
        if not sequential:
            self.fetched, self.window = 0, FIRST_WINDOW_BYTES
            return 0, 0
        start = max(self.fetched, self.expected)
        if start - self.expected > self.window // 2:
            return 0, 0
        wanted = start, self.window
        self.fetched = start + self.window
        self.window = min(self.window * 2, MAX_WINDOW_BYTES)
        return wanted


class ReadAhead:
    """Decides what to fetch ahead and has threads do it.  For the event loop; never blocks."""

    def __init__(
        self, pages: Pages, cached: Pages, reader: ContentReader, max_bytes: int, start: Start
    ) -> None:
        """Fetch at most `max_bytes` ahead, well under what the reader keeps, in jobs to `start`.

        `pages` may block and is for the threads; `cached` refuses to.
        """
        self._pages = pages
        self._cached = cached
        self._reader = reader
        self._max_bytes = min(max_bytes, MAX_WINDOW_BYTES)
        self._start = start
        self._room = threading.Semaphore(_QUEUE)
        self._expected: dict[bytes, Walk] = {}
        self._walks: OrderedDict[int, Walk] = OrderedDict()

    def opened(
        self, places: Callable[[], Sequence[Place]], tree: bytes, name: bytes
    ) -> Content | None:
        """Take note that file `name` of the directory `tree` was opened.

        `places` tells where that is: name and tree of the file, its directory and those above.
        Returns the file's content where its first BATCH_BYTES were fetched ahead, or will be soon.
        """
        key = tree + name
        walk = self._met(key, tree)
        if walk is None:
            if not any(walk.is_starting for walk in self._walks.values()):
                self._expect_next(self._added(Walk(self._reader)), places())
            return None
        if not walk.is_confirmed:
            self._forget(walk.take(key)[0] or walk.take(tree)[0])
            walk.met += 1
            self._expect_next(walk, places())
            if walk.met == CONFIRMED_AFTER:
                walk.confirm(places(), self._pages)
                self._go_on(walk)
            return None
        self._take_in(walk)
        passed, content = walk.take(key)
        self._forget(passed)
        self._go_on(walk)
        return content

    def read(self, content: Content, pattern: ReadPattern, offset: int, size: int) -> None:
        """Take note that `size` bytes were read from `offset`."""
        start, length = pattern.note(offset, size)
        if length and start < content.entry.size:
            half = min(length, self._max_bytes) // WORKERS
            for part in range(WORKERS):
                self._submit(partial(self._fetch_bytes, content, start + part * half, half))

    # -- walks ----------------------------------------------------------------------------------

    def _met(self, key: bytes, tree: bytes) -> Walk | None:
        """Return the walk that expected this file, or something in its directory."""
        walk = self._expected.get(key)
        if walk is None:
            for each in self._walks.values():
                self._take_in(each)
            walk = self._expected.get(key) or self._expected.get(tree)
        return walk if walk and (walk.is_near(key) or walk.is_near(tree)) else None

    def _added(self, walk: Walk) -> Walk:
        self._walks[id(walk)] = walk
        if len(self._walks) > FOLLOWED_WALKS:
            _, dropped = self._walks.popitem(last=False)
            self._forget(dropped.keys())
        return walk

    def _expect_next(self, walk: Walk, places: Sequence[Place]) -> None:
        """Expect what a walk would meet next, if that can be told from cached pages."""
        try:
            found = next(following(places, self._cached, deep=False), None)
        except (NotCached, VitrineError):
            return  # it costs a later beginning, and no more
        if found is not None:
            tree, entry = found
            self._expect(walk, entry.tree if entry.kind is Kind.DIRECTORY else tree + entry.name)

    def _go_on(self, walk: Walk) -> None:
        """Fetch more for a walk, as far as it may be ahead; put it last among those to drop."""
        self._walks.move_to_end(id(walk))
        while walk.wants(self._max_bytes - BATCH_BYTES) and walk.slots.acquire(blocking=False):
            if not self._submit(partial(self._fetch_walk, walk)):
                walk.slots.release()
                return

    def _take_in(self, walk: Walk) -> None:
        """Expect what threads have found for a walk since the last time."""
        for key, content in walk.listed():
            self._expect(walk, key, content)

    def _expect(self, walk: Walk, key: bytes, content: Content | None = None) -> None:
        walk.expect(key, content)
        self._expected[key] = walk

    def _forget(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._expected.pop(key, None)

    # -- in threads -----------------------------------------------------------------------------

    def _submit(self, job: Job) -> bool:
        if not self._room.acquire(blocking=False):
            return False
        self._start(partial(self._do, job))
        return True

    def _do(self, job: Job) -> None:
        try:
            job()
        except VitrineError:
            return  # the read that needs these bytes will say what is wrong
        finally:
            self._room.release()

    def _fetch_bytes(self, content: Content, start: int, length: int) -> None:
        self._reader.prefetch(content.chunks(start, length))

    def _fetch_walk(self, walk: Walk) -> None:
        """Fetch the next files, so many as fit; of one that does not, the beginning."""
        try:
            chunks: list[ChunkId | bytes] = []
            files = walk.next_files(BATCH_BYTES, BATCH_STEPS)
            for content, part in files:
                chunks += content.chunks(0, part)
            self._reader.prefetch(chunks)
            room = AT_HAND_BYTES
            for content, _ in files:
                room -= content.take_at_hand(room)
        finally:
            walk.slots.release()
