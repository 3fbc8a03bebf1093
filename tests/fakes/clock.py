"""A clock that stands until a test moves it."""

from datetime import UTC, datetime

_START = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
_NS = 1_000_000_000


class FakeClock:
    """Keeps the contract of `agent.clock.Clock`; both times move together, or the wall alone."""

    def __init__(self, start: datetime = _START) -> None:
        """Start at `start`, an aware datetime."""
        self._wall_ns = int(start.timestamp()) * _NS
        self._monotonic = 1000.0

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC."""
        return self._wall_ns

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall_ns += int(seconds * _NS)
        self._monotonic += seconds

    def set_wall(self, time_ns: int) -> None:
        """Set the wall clock, as an administrator or a wrong NTP server does."""
        self._wall_ns = time_ns
