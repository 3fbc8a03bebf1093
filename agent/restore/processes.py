"""Processes that write a restore's files, forked from the one that walks.

An interpreter each: threads would wait for one (docs/decisions/0017).  Keys, index and descriptors
come with fork(2); batches and counts cross a socket pair each.  A process that dies ends the
restore, and the end of the restore, or of its process, ends them all.
"""

import os
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.control.client import error_of
from agent.control.messages import Failed
from agent.errors import RestoreIncomplete
from agent.restore.batch import Batch
from agent.restore.gauge import Gauge
from agent.restore.parcel import receive_answer, send_batch
from agent.restore.serving import serve_and_vanish
from agent.restore.tally import Done
from agent.restore.work import FileWork

MAX_PROCESSES = 4  # 36 MB each: together with the walker no more than Argon2id took before them
_WAITING = 2  # processes more than cores: about as many wait for the disk
_QUEUED = 2  # batches a process has: one that it writes, one that waits
_GRACE_S = 10.0  # for a process that is told to end, which it asks between two stretches of bytes
_THREADS = Path("/proc/self/task")


def how_many() -> int:
    """Return how many processes to write with; 0 where forking is not safe.

    One a core, and two more, for now and then some wait for the disk.

    It is not safe where this process has other threads: a fork copies the locks that they hold.
    """
    if sum(1 for _ in _THREADS.iterdir()) > 1:
        return 0
    return min(len(os.sched_getaffinity(0)) + _WAITING, MAX_PROCESSES)


class _Process:
    """One process, and the batches that it has."""

    def __init__(self, pid: int, connected: socket.socket) -> None:
        self.pid = pid
        self.connected = connected
        self.batches: deque[Batch] = deque()


class Processes:
    """Processes forked from this one, which has no threads."""

    def __init__(self, new_work: Callable[[], FileWork], gauge: Gauge, count: int) -> None:
        """Fork `count` processes; in each, `new_work` makes what writes."""
        self._ready = selectors.DefaultSelector()
        self._processes: list[_Process] = []
        try:
            for number in range(count):
                self._processes.append(self._started(new_work, gauge, number))
        except OSError as error:
            list(self.end())
            raise RestoreIncomplete(
                f"the processes that write files could not be started: {error.strerror}",
                hint="see how many processes this user and this service may have",
            ) from error

    @property
    def is_busy(self) -> bool:
        """Tell whether a batch is under way."""
        return any(process.batches for process in self._processes)

    @property
    def is_full(self) -> bool:
        """Tell whether each process has one batch that waits."""
        return all(len(process.batches) >= _QUEUED for process in self._processes)

    def give(self, batch: Batch) -> None:
        """Have a batch written by the process that has the least to do."""
        process = min(self._processes, key=lambda one: len(one.batches))
        process.batches.append(batch)
        try:
            send_batch(process.connected, batch.items())
        except ConnectionError as error:
            raise _ended_early() from error

    def done(self, patience_s: float) -> Iterator[tuple[Batch, Done]]:
        """Yield what is done, after waiting so long for the first; raise what ends the restore."""
        for key, _ in self._ready.select(patience_s):
            process: _Process = key.data
            answer = receive_answer(process.connected)
            if answer is None:
                raise _ended_early()
            if isinstance(answer, Failed):
                raise error_of(answer)
            yield process.batches.popleft(), answer

    def end(self) -> Iterator[Batch]:
        """Hang up and wait for all; yield the batches that were not done."""
        self._ready.close()
        for process in self._processes:
            process.connected.close()
        for process in self._processes:
            _wait(process.pid)
            yield from process.batches
        self._processes = []

    def _started(self, new_work: Callable[[], FileWork], gauge: Gauge, number: int) -> _Process:
        here, there = socket.socketpair()
        parent = os.getpid()
        # Ctrl-C in a process just forked would lead it through this one's clean-up
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
            if not pid:
                ours = [here, *(sibling.connected for sibling in self._processes)]
                serve_and_vanish(parent, there, ours, lambda: _work(new_work, gauge, number))
        except OSError:
            here.close()
            raise
        finally:
            there.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process = _Process(pid, here)
        self._ready.register(here, selectors.EVENT_READ, process)
        return process


def _work(new_work: Callable[[], FileWork], gauge: Gauge, number: int) -> FileWork:
    gauge.become(number)
    return new_work()


def _ended_early() -> RestoreIncomplete:
    return RestoreIncomplete(
        "the restore ended early: a process that writes its files was killed or crashed",
        hint="see the kernel's log for why (memory?), and restore again into another directory",
    )


def _wait(pid: int) -> None:
    """Wait until a process has ended; kill it where it does not."""
    ended = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as waiting:
            waiting.register(ended, selectors.EVENT_READ)
            if not waiting.select(_GRACE_S):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    finally:
        os.close(ended)
