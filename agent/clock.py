"""The one place that asks what time it is.

Code takes a `Clock` rather than calling `time`, so that tests set the hour and the day.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Wall time for records, monotonic time for limits."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return CLOCK_BOOTTIME seconds: a suspended machine must not lengthen a session."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def utc(time_ns: int) -> datetime:
    """Return the aware UTC datetime of `time_ns`, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
