"""Who writes a restore's files, a batch at a time; and threads that do."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from agent.restore.batch import Batch
from agent.restore.tally import Done
from agent.restore.work import FileWork

THREADS = 2  # beside the walker; a third waits for the interpreter more than for the storage


class Writers(Protocol):
    """What writes batches, several at once.  For the walker's thread alone."""

    @property
    def is_busy(self) -> bool:
        """Tell whether a batch is under way."""
        ...

    @property
    def is_full(self) -> bool:
        """Tell whether no more should be given before something is done."""
        ...

    def give(self, batch: Batch) -> None:
        """Have a batch written, whose directories are held."""
        ...

    def done(self, patience_s: float) -> Iterator[tuple[Batch, Done]]:
        """Yield what is done, after waiting so long for the first; raise what ends the restore."""
        ...

    def end(self) -> Iterator[Batch]:
        """Wait until nothing is written any more; yield the batches that were not done.

        Called once, at the latest after whoever writes was told to end.
        """
        ...


class Threads:
    """Threads of this process, which share its reader and its interpreter."""

    def __init__(self, work: FileWork) -> None:
        """Take what writes a batch."""
        self._work = work
        self._pool = ThreadPoolExecutor(THREADS, "files")
        self._running: dict[Future[Done], Batch] = {}

    @property
    def is_busy(self) -> bool:
        """Tell whether a batch is under way."""
        return bool(self._running)

    @property
    def is_full(self) -> bool:
        """Tell whether one batch waits already."""
        return len(self._running) > THREADS

    def give(self, batch: Batch) -> None:
        """Have a batch written by whichever thread is free first."""
        self._running[self._pool.submit(self._work.batch, batch.items())] = batch

    def done(self, patience_s: float) -> Iterator[tuple[Batch, Done]]:
        """Yield what is done, after waiting so long for the first; raise what ends the restore."""
        ready, _ = wait(self._running, patience_s, FIRST_COMPLETED)
        for future in ready:
            done = future.result()
            yield self._running.pop(future), done

    def end(self) -> Iterator[Batch]:
        """Wait for the threads; yield the batches that were not done."""
        self._pool.shutdown(cancel_futures=True)
        yield from self._running.values()
        self._running = {}
