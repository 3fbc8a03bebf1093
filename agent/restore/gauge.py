"""How many bytes have moved and whether all must end: one page that every writer shares.

Threads share it as they share all memory; processes, because the page was mapped before they were
forked.  Nothing else that they share is written.
"""

import mmap
import threading
from collections.abc import Callable

from agent.errors import SessionExpired

_ENDED = 0  # the first word of the page; a count for each process follows
_FIRST = 1
MAX_PROCESSES = mmap.PAGESIZE // 8 - 2


class Gauge:
    """A count and an end.  Thread-safe."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        """Take what tells whether the restore must end now."""
        self._stopped = stopped
        self._lock = threading.Lock()
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._own = _FIRST

    def become(self, number: int) -> None:
        """Count for process `number` from now on; called once, in a process just forked."""
        self._lock = threading.Lock()
        self._own = _FIRST + 1 + number

    @property
    def moved_bytes(self) -> int:
        """How many bytes all writers have moved."""
        return sum(self._words[_FIRST:])

    def moved(self, size: int) -> None:
        """Count bytes on their way; raise SessionExpired once the restore must end."""
        self.check()
        with self._lock:
            self._words[self._own] += size

    def check(self) -> None:
        """Raise SessionExpired once the restore must end."""
        if self._words[_ENDED] or self._stopped():
            raise SessionExpired("the session ended before the restore did")

    def end(self) -> None:
        """Have every writer end between two stretches of bytes."""
        self._words[_ENDED] = 1
