"""Batches of files through threads: read, cut, named, squeezed, sealed, packed; entries come back.

A batch, not a file, crosses from trio to a thread.  The journal is touched by one thread at a
time: the scan between two batches, a batch's result, a checkpoint.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import trio

from agent.backup.batch import Batch, Work
from agent.backup.journal import Journal
from agent.backup.leaf import Change
from agent.backup.packs import PackSink
from agent.backup.pages import Pages
from agent.backup.queued import Queued
from agent.backup.read import FileReader, pause
from agent.backup.relied import make_durable, mark_open
from agent.backup.request import Counts
from agent.backup.small import SmallFiles, StoreAll
from agent.clock import Clock
from agent.encode.chunker import Chunker
from agent.model.tree import Entry
from agent.repository.writer import VaultWriter

READERS = 2  # threads that read and squeeze: each holds a buffer, 6 MiB
QUEUED_GROUPS = 4  # of small files' contents, 1 MiB each
CHECKPOINT_SECONDS = 60.0  # what a crash costs: so long files are read again

BatchResult = list[tuple[int, list[Change]]]
Answer = TypeVar("Answer")
_Job = Batch | None
_STORE_GROUPS = None  # a job: the groups of small files that are full


class Pipeline:
    """One run's way from files to packs and the journal."""

    def __init__(
        self,
        writer: VaultWriter,
        journal: Journal,
        pages: Pages,
        clock: Clock,
        on_progress: Callable[[Counts], None],
        wait: Callable[[float], None] = pause,
    ) -> None:
        """Take what a run writes to; `on_progress` is called in trio's thread."""
        self.sink = PackSink(writer)
        self.counts = Counts()
        self._writer = writer
        self._journal = journal
        self._pages = pages
        self._clock = clock
        self._on_progress = on_progress
        self._wait = wait
        self._readers: list[_BatchReader] = []
        self._reader_between = self._new_reader(self.sink.gather)
        self._lock = threading.Lock()
        self._journal_thread = trio.CapacityLimiter(1)
        self._reader_threads = trio.CapacityLimiter(READERS)
        self._at_work = trio.Semaphore(READERS)
        self._queued = Queued()
        self._checkpointed = clock.monotonic()

    async def run(self, batches: Iterable[Batch]) -> None:
        """Take every batch from the scan to the journal; the last checkpoint is the caller's."""
        steps = iter(batches)
        send, receive = trio.open_memory_channel[_Job](math.inf)  # what bounds it is _queued
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(self._work, receive)
            async with send:
                await self._feed(steps, send)

    async def step(self, steps: Iterator[object]) -> bool:
        """Take one step of what works on the journal; tell whether there was one."""
        await self._in_journal(self._mark_open)
        return await self._in_journal(_step, steps)

    async def checkpoint_if_due(self) -> None:
        """Make durable what was done, if enough was done or time has passed."""
        due = self._clock.monotonic() - self._checkpointed >= CHECKPOINT_SECONDS
        if due or self._writer.wants_flush:
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Put every open pack, index them all, and only then let the journal name them."""
        for _ in range(READERS):
            await self._at_work.acquire()
        try:
            await self._in_journal(self.make_durable)
        finally:
            for _ in range(READERS):
                self._at_work.release()
        self._checkpointed = self._clock.monotonic()

    # -- in trio --------------------------------------------------------------------------------

    async def _feed(self, steps: Iterator[Batch], send: trio.MemorySendChannel[_Job]) -> None:
        while (batch := await self._in_journal(_next_batch, steps)) is not None:
            self._count(batch.looked_at, 0, 0)
            if batch.files:
                await self._in_journal(self._mark_open)
                if batch.is_small:
                    await self._read_between(batch)
                    await self._have_groups_stored(send)
                else:
                    await self._queued.add(batch.files)
                    await send.send(batch)
            await self.checkpoint_if_due()

    async def _read_between(self, batch: Batch) -> None:
        """Read a batch of small files between two steps of the scan.

        Both are system calls of a microsecond, between which threads would fight for the
        interpreter: one after the other they take less time than side by side.  What they hold is
        squeezed meanwhile by the threads for larger files.
        """
        async with self._at_work:
            await self._in_journal(self._read_and_apply, batch)
        self._count(0, batch.files, batch.bytes)

    async def _have_groups_stored(self, send: trio.MemorySendChannel[_Job]) -> None:
        """Leave full groups to the threads for larger files, unless those have too much to do."""
        if self.sink.full_groups > QUEUED_GROUPS:
            await self._in_journal(self.sink.store_groups)
        elif self.sink.full_groups and not self._queued.files:
            await send.send(_STORE_GROUPS)

    async def _work(self, receive: trio.MemoryReceiveChannel[_Job]) -> None:
        async for batch in receive:
            async with self._at_work:
                if batch is _STORE_GROUPS:
                    await self._in_reader(self.sink.store_groups)
                    continue
                self._queued.remove(batch.files)
                result = await self._in_reader(self._read, batch)
                await self._in_journal(self._apply, result)
            self._count(0, batch.files, batch.bytes)

    async def _in_reader(self, call: Callable[..., Answer], *args: object) -> Answer:
        return await trio.to_thread.run_sync(call, *args, limiter=self._reader_threads)

    async def _in_journal(self, call: Callable[..., Answer], *args: object) -> Answer:
        return await trio.to_thread.run_sync(call, *args, limiter=self._journal_thread)

    def _count(self, looked_at: int, files: int, size: int) -> None:
        counts = self.counts
        self.counts = Counts(
            counts.looked_at + looked_at, counts.files + files, counts.bytes + size
        )
        self._on_progress(self.counts)

    # -- in threads -----------------------------------------------------------------------------

    def make_durable(self) -> None:
        """Do a checkpoint's work, while nobody fills a pack; blocks."""
        self.sink.put_all()
        make_durable(self._journal, self._writer)

    def _mark_open(self) -> None:
        """Note, before the first pack is put, that a crash from now on leaves packs to adopt."""
        if self._journal.fact("clean"):
            mark_open(self._journal, self._writer)

    def _apply(self, result: BatchResult) -> None:
        for directory, changes in result:
            if self._journal.has(directory):  # or it went while its files were read
                self._pages.apply(directory, changes)

    def _read_and_apply(self, batch: Batch) -> None:
        self._apply(self._reader_between.read(batch))

    def _read(self, batch: Batch) -> BatchResult:
        with self._lock:
            reader = self._readers.pop() if self._readers else self._new_reader(self.sink.chunks)
        result = reader.read(batch)
        with self._lock:
            self._readers.append(reader)
        self.sink.store_groups()
        return result

    def _new_reader(self, store_all: StoreAll) -> "_BatchReader":
        chunker = Chunker(self._writer.ids.cut_seed)
        breathe = trio.from_thread.check_cancelled
        files = FileReader(chunker, self.sink, self._clock, breathe, self._wait)
        return _BatchReader(files, SmallFiles(store_all, self._clock))


class _BatchReader:
    """Reads batches, one at a time."""

    def __init__(self, files: FileReader, small: SmallFiles) -> None:
        self._files = files
        self._small = small

    def read(self, batch: Batch) -> BatchResult:
        result: BatchResult = []
        for work in batch.work:
            try:
                fd = batch.source.open(work.directory.path)
            except OSError:  # it went since it was listed: the next scan will tell
                continue
            try:
                result.append((work.directory.id, self._entries(fd, work, batch.source.device)))
            finally:
                os.close(fd)
        return result

    def _entries(self, fd: int, work: Work, device: int) -> list[Change]:
        by_name = {found.name: found for found in work.files}  # two events may name one file
        changes: dict[bytes, Entry | None] = {
            entry.name: entry for entry in self._small.read(fd, by_name.values(), device)
        }
        for name in sorted(by_name.keys() - changes.keys()):  # what is read in order lies in order
            changes[name] = self._files.read(fd, by_name[name], device)
        return sorted(changes.items())


def _next_batch(steps: Iterator[Batch]) -> Batch | None:
    return next(steps, None)


def _step(steps: Iterator[object]) -> bool:
    try:
        next(steps)
    except StopIteration:
        return False
    return True
