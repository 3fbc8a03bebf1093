"""What is restored goes to the disk while more is decoded, and not all of it at the end."""

import ctypes
import os
import threading

from agent.clock import Clock
from agent.errors import RestoreIncomplete

FROM_BYTES = 256 * 1024  # smaller ones are left for syncfs(2), which brings them into order
PAUSE_S = 0.5  # between two syncfs(2), and at least as long as the last one took
_START = 2  # SYNC_FILE_RANGE_WRITE: begin, and wait for nothing

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin(descriptor: int, size: int) -> None:
    """Have the kernel begin to write a large file that is complete.

    A hint: a file system that takes none, or fails now, is asked again by `finish`.
    """
    if size >= FROM_BYTES:
        _libc.sync_file_range(descriptor, 0, 0, _START)


def finish(target: int) -> None:
    """Make durable all that the file system of `target` holds; RestoreIncomplete where it fails.

    os.fsync for each file would take ten times as long.
    """
    if _libc.syncfs(target) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise RestoreIncomplete(f"what was restored could not be made durable: {reason}")


class Flusher:
    """A thread that makes durable what is there already, time and again, until it is stopped.

    The disk then works while files are written, also on small ones, and what is left for the end is
    bounded.  A failure is kept for `check`: the kernel tells each of them once.
    """

    def __init__(self, target: int, clock: Clock) -> None:
        """Take the target's descriptor, which stays open until `stop` has returned."""
        self._clock = clock
        self._target = target
        self._stopped = threading.Event()
        self._failure: RestoreIncomplete | None = None
        self._thread = threading.Thread(target=self._run, name="flush")

    def start(self) -> None:
        """Begin, once whatever has to be forked is."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the call that is under way, and make no more."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise RestoreIncomplete where something could not be made durable."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        pause = PAUSE_S
        while not self._stopped.wait(pause):
            began = self._clock.monotonic()
            try:
                finish(self._target)
            except RestoreIncomplete as error:
                self._failure = error
                return
            pause = max(PAUSE_S, self._clock.monotonic() - began)
