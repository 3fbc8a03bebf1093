"""Restores a selection: walks it in one thread, writes files in a few others, a batch at a time.

A batch is bounded in bytes, files and open directories, and so is how many are under way.  What is
damaged is counted and left out, and the rest goes on; what concerns the whole restore (a full
target, a store or session that is gone) ends it.
"""

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from agent.clock import Clock
from agent.errors import RepositoryError, RestoreIncomplete, VitrineError
from agent.model.location import ChunkLocation
from agent.model.tree import Flaw, Kind
from agent.restore import writeback
from agent.restore.attributes import Unset
from agent.restore.batch import Batch, Job, in_pack_order
from agent.restore.content import Chunks, ContentWriter
from agent.restore.links import Anchors
from agent.restore.plan import Lost, Planned, Selection, Step
from agent.restore.report import FailureReport
from agent.restore.tally import Outcome, Tally
from agent.restore.target import OPEN_LEVELS, Directory
from agent.restore.writer import EntryWriter

WRITERS = 2  # beside the walker; a third waits for the interpreter more than for the storage
PROGRESS_EVERY_S = 0.2
_ENDS_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
# a hostile tree may hold values that the kernel's interface cannot even be asked to set
_OF_ONE_FILE = (OSError, RepositoryError, ValueError, OverflowError)

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
) -> Outcome:
    """Restore all of `selection` below the descriptor `target`; on return it is durable.

    Raises RestoreIncomplete where the target is full or read-only, SessionExpired once `stopped`
    says so, and what the store raises.  Single files that fail are in the outcome.
    """
    tally = Tally(stopped)
    report = FailureReport(target)
    anchors = Anchors(target)
    try:
        with ThreadPoolExecutor(1, "ahead") as ahead, ThreadPoolExecutor(WRITERS, "files") as files:
            writer = EntryWriter(ContentWriter(reader, ahead, tally.moved), anchors)
            work = _Work(reader, writer, tally, report)
            _Restore(work, target, files, _Teller(clock, on_progress, selection, tally)).run()
    finally:
        anchors.remove()
        report.close()
    writeback.finish(target)
    on_progress(tally.moved_bytes, selection.total_bytes, tally.files)
    return tally.outcome(report.name)


class _Work:
    """What is done to single files and directories, by any thread."""

    def __init__(
        self, reader: Chunks, writer: EntryWriter, tally: Tally, report: FailureReport
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.tally = tally
        self._report = report

    def batch(self, batch: Batch) -> None:
        """Write a batch; what ends all is kept in the tally."""
        try:
            for some in in_pack_order(self._reader, batch.jobs):
                self._reader.prefetch_frames(list(some.frames))
                for job, places in some.jobs:
                    self.file(job, places)
        except BaseException as error:  # noqa: BLE001 - the walker raises it
            self.tally.end(error)
        finally:
            self.release(batch)

    def file(self, job: Job, places: Sequence[ChunkLocation] = ()) -> None:
        """Write one entry that is no directory; count it or its failure."""
        self.tally.check()
        planned = job.planned
        try:
            unset = self._writer.write(job.directory, planned.source, planned.entry, places)
        except _OF_ONE_FILE as error:
            self.failed(planned.path, error)
        else:
            self.tally.restored(planned.entry.size, unset)

    def release(self, batch: Batch) -> None:
        """Let go of a batch's directories."""
        for job in batch.jobs:
            self.settle(job.directory, job.directory.release)

    def settle(self, directory: Directory, step: Callable[[], Unset | None]) -> None:
        """Take a step that may finish `directory`."""
        try:
            unset = step()
        except _OF_ONE_FILE as error:
            self.failed(directory.path, error)
        else:
            self.tally.dressed(unset or Unset())

    def failed(self, path: bytes, error: Exception) -> None:
        """Count and report what could not be restored; end all where nothing more can be."""
        if isinstance(error, OSError) and error.errno in _ENDS_ALL:
            self.tally.end(
                RestoreIncomplete(
                    f"the restore ended early, the target takes no more: {error.strerror}",
                    hint="make room, or name another directory, and restore again",
                )
            )
            return
        self.tally.lost()
        self._report.add(path, _reason(error))


class _Restore:
    """The walk: one thread, which makes directories and all that is no regular file."""

    def __init__(
        self, work: _Work, target: int, files: ThreadPoolExecutor, teller: "_Teller"
    ) -> None:
        self._work = work
        self._files = files
        self._teller = teller
        self._stack = [Directory.root(target)]
        self._dead_depth: int | None = None  # of a directory that could not be made
        self._batch = Batch()
        self._running: dict[Future[None], Batch] = {}

    def run(self) -> None:
        tally = self._work.tally
        try:
            self._walk(tally)
        except BaseException as error:  # noqa: BLE001 - raised below, unless another came first
            tally.end(error)
        finally:
            self._let_go()
        if tally.fatal is not None:
            raise tally.fatal

    def _walk(self, tally: Tally) -> None:
        for step in self._teller.selection.walk():
            tally.check()
            self._step(step)
            self._teller.tell()
        self._submit()
        while self._running:
            self._reap()

    def _step(self, step: Step) -> None:
        self._ascend(step.depth)
        if self._dead_depth is not None and step.depth <= self._dead_depth:
            self._dead_depth = None
        if isinstance(step, Lost):
            self._work.failed(step.parent, step.error)
        elif self._dead_depth is not None:
            self._work.failed(step.path, OSError(errno.ENOENT, "its directory was not made"))
        elif step.entry.kind is Kind.DIRECTORY:
            self._descend(step)
        elif step.entry.kind is Kind.FILE:
            self._enqueue(step)
        else:
            self._work.file(Job(self._stack[-1], step))

    def _descend(self, step: Planned) -> None:
        try:
            self._stack.append(self._stack[-1].enter(step.entry))
        except OSError as error:
            self._work.failed(step.path, error)
            self._dead_depth = step.depth
            return
        if step.entry.flaw is Flaw.UNLISTED:
            self._work.failed(step.path, OSError(errno.EACCES, "it was not listed in the backup"))
        if len(self._stack) > OPEN_LEVELS:
            self._stack[-OPEN_LEVELS].rest()

    def _ascend(self, depth: int) -> None:
        while len(self._stack) > depth + 1:
            child = self._stack.pop()
            try:
                self._stack[-1].wake(child)
            finally:
                self._work.settle(child, child.leave)

    def _enqueue(self, step: Planned) -> None:
        if not self._batch.takes(step.entry):
            self._submit()
        self._batch.add(Job(self._stack[-1], step))

    def _submit(self) -> None:
        while len(self._running) > WRITERS:
            self._reap()
        batch, self._batch = self._batch, Batch()
        if batch.jobs:
            self._running[self._files.submit(self._work.batch, batch)] = batch

    def _reap(self) -> None:
        """Wait for a batch, or for the next moment to tell how far it is."""
        done, _ = wait(self._running, PROGRESS_EVERY_S, FIRST_COMPLETED)
        for future in done:
            del self._running[future]
        self._teller.tell()

    def _let_go(self) -> None:
        """Close every descriptor that is still open; batches under way close theirs."""
        for future, batch in self._running.items():
            if future.cancel():
                self._work.release(batch)
        self._work.release(self._batch)
        while self._stack:
            directory = self._stack.pop()
            self._work.settle(directory, directory.leave)


class _Teller:
    """Tells how far the restore has come, a few times a second."""

    def __init__(
        self, clock: Clock, on_progress: Progress, selection: Selection, tally: Tally
    ) -> None:
        self.selection = selection
        self._clock = clock
        self._on_progress = on_progress
        self._tally = tally
        self._told = clock.monotonic()

    def tell(self) -> None:
        now = self._clock.monotonic()
        if now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self._on_progress(
                self._tally.moved_bytes, self.selection.total_bytes, self._tally.files
            )


def _reason(error: Exception) -> str:
    if isinstance(error, VitrineError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or "the target refused"
    return "it has a value that no file can have"
