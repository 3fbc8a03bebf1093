"""When to take a snapshot: a while after the last change, and never too long after the first.

Pure: the caller passes the time in, in seconds from any clock that does not go back.
"""

from typing import Final

SETTLE_SECONDS: Final = 5.0  # what writes a study's files pauses less than that between two
MAX_WAIT_SECONDS: Final = 60.0  # under constant change: the age that the newest snapshot reaches


class Settle:
    """Knows since when changes wait, and until when they should."""

    __slots__ = ("_first", "_last", "_max_wait", "_settle")

    def __init__(self, settle: float = SETTLE_SECONDS, max_wait: float = MAX_WAIT_SECONDS) -> None:
        """Take both times in seconds; a settle time above the longest wait is cut to it."""
        self._settle = min(settle, max_wait)
        self._max_wait = max_wait
        self._first: float | None = None
        self._last = 0.0

    @property
    def is_waiting(self) -> bool:
        """Tell whether a change waits for its snapshot."""
        return self._first is not None

    def changed(self, now: float) -> None:
        """Take note of a change."""
        if self._first is None:
            self._first = now
        self._last = now

    def due(self) -> float | None:
        """Return when the snapshot should be taken, or None where nothing waits."""
        if self._first is None:
            return None
        return min(self._last + self._settle, self._first + self._max_wait)

    def taken(self) -> None:
        """Start over: what has changed so far is being looked at."""
        self._first = None
