"""Reading ahead: who reads in sequence gets the next bytes fetched before asking.

Three patterns: through one file; through the files of a directory in its order; and through files
in the order in which they were stored, which is how a walk over many small directories reads (a
PACS has one or two files in each).  Anything else costs ranged reads of exactly what was asked.
Work that does not fit the queue is dropped: it is a hint, and errors wait for the real read.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import trio

from agent.errors import VitrineError
from agent.model.ids import ID_BYTES, ChunkId
from agent.model.tree import EXTENT, HOLE, Entry
from fsdriver.content import Content, ContentReader
from fsdriver.nodes import Node, Pages
from fsdriver.view import View

MiB = 1024 * 1024
FIRST_WINDOW_BYTES = 2 * MiB
MAX_WINDOW_BYTES = 16 * MiB  # 0.1 s at a slow disk's pace; bounds what a wrong guess costs
SLACK_BYTES = MiB  # the kernel's own read-ahead may ask out of order by this much
FOLLOWED_DIRECTORIES = 256
FILES_AHEAD = 256
FOLLOWED_PACKS = 64
STORED_WINDOW_BYTES = 8 * MiB  # of one pack, ahead of its reader: half a second of a slow reader
WORKERS = 2
_QUEUE = 16

Job = Callable[[], None]


@dataclass(slots=True)
class ReadPattern:
    """How one open file is read, and how far ahead its bytes were asked for."""

    expected: int = 0
    fetched: int = 0
    window: int = FIRST_WINDOW_BYTES

    def note(self, offset: int, size: int) -> tuple[int, int]:
        """Take note of a read; return (offset, bytes) to fetch now, or (0, 0)."""
        sequential = abs(offset - self.expected) <= SLACK_BYTES and self.expected > 0
        self.expected = offset + size
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


@dataclass(slots=True)
class OpenPattern:
    """In which order the files of one directory are opened, and how far ahead they were fetched."""

    last: bytes = b""
    streak: int = 0
    fetched: bytes = b""
    files: int = 0  # fetched after `last`
    ahead: int = 0  # their bytes
    ended: bool = False  # no file follows `fetched`
    busy: bool = False

    def note(self, entry: Entry) -> bool:
        """Take note of an open; tell whether the files after `fetched` should be fetched now."""
        self.streak = self.streak + 1 if entry.name > self.last else 0
        if not self.streak or entry.name > self.fetched:
            self.fetched, self.files, self.ahead, self.ended = entry.name, 0, 0, False
        else:
            self.files = max(0, self.files - 1)
            self.ahead = max(0, self.ahead - entry.size)
        self.last = entry.name
        runs_low = self.files < FILES_AHEAD // 4 and self.ahead < MAX_WINDOW_BYTES // 4
        return self.streak >= 2 and runs_low and not (self.busy or self.ended)


@dataclass(slots=True)
class StoredPattern:
    """How far one pack was read in the order in which it was written, and fetched ahead."""

    last: int = -1
    streak: int = 0
    fetched: int = -1
    busy: bool = False

    def note(self, frame: int) -> bool:
        """Take note that `frame` is needed; tell whether those behind should be fetched now."""
        if frame != self.last:
            in_order = self.last < frame <= max(self.last + 1, self.fetched + 1)
            self.streak = self.streak + 1 if in_order else 0
            self.last = frame
        self.fetched = max(self.fetched, frame)
        return self.streak >= 2 and not self.busy and frame >= self.fetched - 1


class ReadAhead:
    """Fetches ahead in threads of its own.  `run` is a task of the caller's nursery."""

    def __init__(self, view: View, pages: Pages, reader: ContentReader, max_bytes: int) -> None:
        """Fetch at most `max_bytes` ahead: well under what the reader keeps."""
        self._view = view
        self._pages = pages
        self._reader = reader
        self._max_bytes = max_bytes
        self._limiter = trio.CapacityLimiter(WORKERS)
        self._jobs_in, self._jobs = trio.open_memory_channel[Job](_QUEUE)
        self._directories: OrderedDict[bytes, OpenPattern] = OrderedDict()
        self._packs: OrderedDict[bytes, StoredPattern] = OrderedDict()

    async def run(self) -> None:
        """Do what was asked for, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    def opened(self, directory: Node, entry: Entry) -> None:
        """Take note that a file of `directory` was opened."""
        pattern = self._directories.setdefault(directory.identity, OpenPattern())
        self._directories.move_to_end(directory.identity)
        if len(self._directories) > FOLLOWED_DIRECTORIES:
            self._directories.popitem(last=False)
        if pattern.note(entry):
            pattern.busy = self._submit(partial(self._fetch_files, directory, pattern))
        elif pattern.streak < 2 and entry.content and not entry.depth:
            self._opened_in_pack(entry.content[-EXTENT.size :][:ID_BYTES])

    def _opened_in_pack(self, last_chunk: bytes) -> None:
        """Take note of where a file ends in its pack: the next file may begin behind it."""
        if last_chunk == HOLE:
            return
        try:
            pack, frame = self._reader.place(last_chunk)
        except VitrineError:
            return  # as below
        pattern = self._packs.setdefault(pack, StoredPattern())
        self._packs.move_to_end(pack)
        if len(self._packs) > FOLLOWED_PACKS:
            self._packs.popitem(last=False)
        if pattern.note(frame):
            pattern.busy = self._submit(partial(self._fetch_stored, last_chunk, pattern))

    def read(self, content: Content, pattern: ReadPattern, offset: int, size: int) -> None:
        """Take note that `size` bytes were read from `offset`."""
        start, length = pattern.note(offset, size)
        if length and start < content.entry.size:
            self._submit(partial(self._fetch_bytes, content, start, min(length, self._max_bytes)))

    async def _work(self) -> None:
        async for job in self._jobs:
            await trio.to_thread.run_sync(job, limiter=self._limiter, abandon_on_cancel=True)

    def _submit(self, job: Job) -> bool:
        try:
            self._jobs_in.send_nowait(job)
        except trio.WouldBlock:
            return False
        return True

    def _fetch_bytes(self, content: Content, start: int, length: int) -> None:
        try:
            self._reader.prefetch(content.chunks(start, length))
        except VitrineError:
            return  # the read that needs these bytes will say what is wrong

    def _fetch_stored(self, chunk_id: bytes, pattern: StoredPattern) -> None:
        """Fetch what was stored behind what was fetched."""
        try:
            window = min(self._max_bytes, STORED_WINDOW_BYTES)
            pattern.fetched = self._reader.prefetch_behind(chunk_id, pattern.fetched, window)
        except VitrineError:
            return  # as above
        finally:
            pattern.busy = False

    def _fetch_files(self, directory: Node, pattern: OpenPattern) -> None:
        """Fetch the next files, so many as fit; of one that does not, the beginning."""
        chunks: list[ChunkId | bytes] = []
        budget = min(self._max_bytes, MAX_WINDOW_BYTES) - pattern.ahead
        try:
            following = self._view.after(directory, pattern.fetched, self._pages)
            files = list(islice(following, FILES_AHEAD - pattern.files))
            pattern.ended = not files
            for entry in files:
                if budget <= 0:
                    break
                part = min(entry.size, budget)
                chunks += Content(entry, self._reader).chunks(0, part)
                budget -= part
                pattern.fetched = entry.name
                pattern.files += 1
                pattern.ahead += part
            self._reader.prefetch(chunks)
        except VitrineError:
            return  # as above
        finally:
            pattern.busy = False
