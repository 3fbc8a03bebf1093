"""Restores a selection: walks it in one thread, writes files in a few others, a batch at a time.

A batch is bounded in bytes, files and open directories, and so is how many are under way.  What is
damaged is counted and left out, and the rest goes on; what concerns the whole restore (a full
target, a store or session that is gone) ends it.
"""

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from agent.clock import Clock
from agent.errors import RestoreIncomplete
from agent.model.tree import Flaw, Kind
from agent.restore import writeback
from agent.restore.attributes import Unset
from agent.restore.batch import Batch, Item, Job
from agent.restore.content import ContentWriter
from agent.restore.failures import OF_ONE_FILE, reason, refuse_end
from agent.restore.gauge import Gauge
from agent.restore.links import Anchors
from agent.restore.pieces import Chunks
from agent.restore.plan import Lost, Planned, Selection, Step
from agent.restore.processes import Processes
from agent.restore.report import FailureReport
from agent.restore.tally import Done, Outcome, Tally
from agent.restore.target import OPEN_LEVELS, Directory
from agent.restore.work import FileWork
from agent.restore.writeback import Flusher
from agent.restore.writer import EntryWriter
from agent.restore.writers import Threads, Writers

PROGRESS_EVERY_S = 0.2

Progress = Callable[[int, int, int], None]
"""Hears of (bytes moved, bytes in all, files restored)."""


def restore(
    selection: Selection,
    reader: Chunks,
    target: int,
    *,
    clock: Clock,
    stopped: Callable[[], bool],
    on_progress: Progress,
    processes: int = 0,
) -> Outcome:
    """Restore all of `selection` below the descriptor `target`; on return it is durable.

    Files are written by so many `processes`, forked from this one, or by threads if there are none.
    Raises RestoreIncomplete where the target is full or read-only, SessionExpired once `stopped`
    says so, and what the store raises.  Single files that fail are in the outcome.
    """
    gauge = Gauge(stopped)
    report = FailureReport(target)
    anchors = Anchors(target)
    tally = Tally()
    teller = _Teller(clock, on_progress, selection, gauge, tally)
    with ThreadPoolExecutor(1, "ahead") as ahead:

        def new_work() -> FileWork:
            content = ContentWriter(reader, ahead, gauge.moved)
            return FileWork(reader, EntryWriter(content, anchors), gauge.check)

        work = new_work()
        writers = Processes(new_work, gauge, processes) if processes else Threads(work)
        flusher = Flusher(target, clock)
        try:
            _Restore(work, writers, gauge, teller, report, flusher).run(selection, target)
        finally:
            flusher.stop()
            anchors.remove()
            report.close()
    flusher.check()
    writeback.finish(target)
    teller.tell_all()
    return tally.outcome(report.name)


class _Restore:
    """The walk: one thread, which makes directories and all that is no regular file."""

    def __init__(
        self,
        work: FileWork,
        writers: Writers,
        gauge: Gauge,
        teller: "_Teller",
        report: FailureReport,
        flusher: Flusher,
    ) -> None:
        self._work = work
        self._writers = writers
        self._gauge = gauge
        self._teller = teller
        self._tally = teller.tally
        self._report = report
        self._flusher = flusher
        self._stack: list[Directory] = []
        self._dead_depth: int | None = None  # of a directory that could not be made
        self._batch = Batch()

    def run(self, selection: Selection, target: int) -> None:
        """Restore; nothing is written, and no descriptor open, on return."""
        try:
            self._flusher.start()  # not before: a process with threads cannot be forked
            self._stack.append(Directory.root(target))
            self._walk(selection)
        except BaseException:
            self._gauge.end()
            raise
        finally:
            self._let_go()

    def _walk(self, selection: Selection) -> None:
        for step in selection.walk():
            self._gauge.check()
            self._step(step)
            self._teller.tell()
        self._submit()
        while self._writers.is_busy:
            self._reap(PROGRESS_EVERY_S)
        self._ascend(0)

    def _step(self, step: Step) -> None:
        self._ascend(step.depth)
        if self._dead_depth is not None and step.depth <= self._dead_depth:
            self._dead_depth = None
        if isinstance(step, Lost):
            self._failed(step.parent, step.error)
        elif self._dead_depth is not None:
            self._failed(step.path, OSError(errno.ENOENT, "its directory was not made"))
        elif step.entry.kind is Kind.DIRECTORY:
            self._descend(step)
        elif step.entry.kind is Kind.FILE:
            self._enqueue(step)
        else:
            item = Item(self._stack[-1].opened(), step.source, step.entry)
            self._count([step], self._work.one(item))

    def _descend(self, step: Planned) -> None:
        try:
            self._stack.append(self._stack[-1].enter(step.entry))
        except OSError as error:
            self._failed(step.path, error)
            self._dead_depth = step.depth
            return
        if step.entry.flaw is Flaw.UNLISTED:
            self._failed(step.path, OSError(errno.EACCES, "it was not listed in the backup"))
        if len(self._stack) > OPEN_LEVELS:
            self._stack[-OPEN_LEVELS].rest()

    def _ascend(self, depth: int) -> None:
        while len(self._stack) > depth + 1:
            child = self._stack.pop()
            try:
                self._stack[-1].wake(child)
            finally:
                self._settle(child, child.leave)

    def _enqueue(self, step: Planned) -> None:
        if not self._batch.takes(step.entry):
            self._submit()
        self._batch.add(Job(self._stack[-1], step))

    def _submit(self) -> None:
        if not self._batch.jobs:
            return
        self._reap(0)
        while self._writers.is_full:
            self._reap(PROGRESS_EVERY_S)
        batch, self._batch = self._batch, Batch()
        try:
            self._writers.give(batch)
        except BaseException:
            self._release(batch)
            raise

    def _reap(self, patience_s: float) -> None:
        """Take what is done, or wait for the next moment to tell how far it is."""
        for batch, done in self._writers.done(patience_s):
            self._release(batch)
            self._count([job.planned for job in batch.jobs], done)
        self._gauge.check()
        self._flusher.check()
        self._teller.tell()

    def _count(self, planned: list[Planned], done: Done) -> None:
        self._tally.add(done)
        for number, why in done.failed:
            self._lost(planned[number].path, why)

    def _release(self, batch: Batch) -> None:
        for job in batch.jobs:
            self._settle(job.directory, job.directory.release)

    def _settle(self, directory: Directory, step: Callable[[], Unset | None]) -> None:
        """Take a step that may finish `directory`."""
        try:
            unset = step()
        except OF_ONE_FILE as error:
            self._failed(directory.path, error)
        else:
            if unset is not None:
                self._tally.dressed(unset)

    def _failed(self, path: bytes, error: Exception) -> None:
        refuse_end(error)
        self._lost(path, reason(error))

    def _lost(self, path: bytes, why: str) -> None:
        self._tally.lost()
        self._report.add(path, why)

    def _let_go(self) -> None:
        """Close every descriptor that is still open, once nobody writes any more."""
        for batch in [*self._writers.end(), self._batch]:
            with suppress(RestoreIncomplete):  # it ends already, and something else says why
                self._release(batch)
        while self._stack:
            directory = self._stack.pop()
            with suppress(RestoreIncomplete):
                self._settle(directory, directory.leave)


class _Teller:
    """Tells how far the restore has come, a few times a second."""

    def __init__(
        self, clock: Clock, on_progress: Progress, selection: Selection, gauge: Gauge, tally: Tally
    ) -> None:
        self.tally = tally
        self._total_bytes = selection.total_bytes
        self._gauge = gauge
        self._clock = clock
        self._on_progress = on_progress
        self._told = clock.monotonic()

    def tell(self) -> None:
        """Tell it if it is time."""
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self.tell_all()

    def tell_all(self) -> None:
        """Tell it now."""
        self._on_progress(self._gauge.moved_bytes, self._total_bytes, self.tally.files)
