"""A store that is slow once: days pass before one of its operations, and bring what they bring."""

from collections.abc import Callable

from agent.repository import layout
from agent.store.base import Store
from tests.fakes.stores import RecordingStore


class PausedStore(RecordingStore):
    """Lets days pass before its n-th operation, but between a last look and its snapshot only one.

    That is the lease: what a look says holds for so long, and the snapshot is put right after it.
    """

    def __init__(self, inner: Store, days: int, a_day: Callable[[], None]) -> None:
        """Take what a day brings; `pause_at` counts from 1."""
        super().__init__(inner)
        self.days = days
        self.a_day = a_day
        self.pause_at: int | None = None

    def before(self, operation: str, name: str) -> None:
        """Pause, perhaps."""
        super().before(operation, name)
        if len(self.calls) == self.pause_at:
            is_commit = operation == "put" and layout.snapshot_place(name) is not None
            for _ in range(min(self.days, 1) if is_commit else self.days):
                self.a_day()
