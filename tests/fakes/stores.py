"""Stores that record, fail or lie: what the rules of agent/store/base.py are there for."""

import threading
from collections.abc import Callable, Iterator, Sequence

from agent.errors import StoreUnavailable
from agent.store.base import Draft, Listed, Part, Store
from agent.store.draft import BufferedDraft


class RecordingStore:
    """Passes everything on, and keeps what was asked for in order: (operation, name)."""

    def __init__(self, inner: Store) -> None:
        """Take the store that does the work."""
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def puts(self) -> list[str]:
        """Return the names that were put, in order."""
        return [name for operation, name in self.calls if operation == "put"]

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Record, then store."""
        self.before("put", name)
        self.inner.put(name, parts)

    def begin(self) -> Draft:
        """Return a draft whose `keep` is a put."""
        return BufferedDraft(self.put)

    def get(self, name: str) -> bytes:
        """Record, then return the object."""
        self.before("get", name)
        return self.inner.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Record, then return the range."""
        self.before("get_range", name)
        return self.inner.get_range(name, offset, length)

    def size(self, name: str) -> int:
        """Record, then return the size."""
        self.before("size", name)
        return self.inner.size(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Record, then list."""
        self.before("list", prefix)
        return self.inner.list(prefix)

    def delete(self, name: str) -> None:
        """Record, then delete."""
        self.before("delete", name)
        self.inner.delete(name)

    def before(self, operation: str, name: str) -> None:
        """Note a call; a subclass may raise instead."""
        with self._lock:
            self.calls.append((operation, name))


class FailingStore(RecordingStore):
    """Fails at the n-th operation, counted from 0, and at every later one: a crash, or a cut."""

    def __init__(self, inner: Store, fails_at: int, *, once: bool = False) -> None:
        """Take which operation fails; `once`: those after it work again."""
        super().__init__(inner)
        self._fails_at = fails_at
        self._once = once

    def before(self, operation: str, name: str) -> None:
        """Note a call, and fail when it is time."""
        number = len(self.calls)
        super().before(operation, name)
        if number == self._fails_at or (number > self._fails_at and not self._once):
            raise StoreUnavailable(f"{operation} of {name} fails on purpose")


class LyingStore(RecordingStore):
    """Serves something else than was put: `lie` gets name and bytes, and returns other bytes."""

    def __init__(self, inner: Store, lie: Callable[[str, bytes], bytes]) -> None:
        """Take the lie."""
        super().__init__(inner)
        self._lie = lie

    def get(self, name: str) -> bytes:
        """Return the lie about the whole object."""
        return self._lie(name, super().get(name))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a stretch of the lie, however short."""
        self.before("get_range", name)
        return self._lie(name, self.inner.get(name))[offset : offset + length]

    def size(self, name: str) -> int:
        """Return the length of the lie."""
        self.before("size", name)
        return len(self._lie(name, self.inner.get(name)))
