"""A store that fails when told to: before an operation, after it, half-way through a put, or full.

It can also hold an operation up while something else happens.
"""

import enum
import threading
from collections.abc import Callable, Collection, Iterator, Sequence

from agent.errors import StoreError, StoreFull, StoreUnavailable
from agent.store.base import Draft, Listed, Part, Store
from agent.store.draft import BufferedDraft

OPERATIONS = frozenset({"put", "get", "get_range", "size", "list", "delete"})


class Fault(enum.Enum):
    """What has happened to the object when the error comes."""

    BEFORE = "nothing"
    AFTER = "everything: only the answer was lost"
    TORN = "half of a put, under its name: what a store does that breaks rule 2"
    FULL = "nothing, nor by any later put until it is healed: space ran out; all else works"
    DELAYED = "what should, but only after `meanwhile` had its turn"


_NOTHING_DONE = frozenset({Fault.BEFORE, Fault.FULL})


class FaultyStore:
    """Passes everything on to `inner`, but for the operations that fail.

    Those are number `fail_at`, counted from 1 among the `counted` kinds, and, if it `stays_down`,
    every one of any kind after that: as for a process that dies, or a network that goes away.
    """

    def __init__(
        self,
        inner: Store,
        *,
        fail_at: int | None = None,
        error: StoreError | None = None,
        fault: Fault = Fault.BEFORE,
        counted: Collection[str] = OPERATIONS,
        stays_down: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Fail never, where `fail_at` is None.

        `error` is what is raised, if it is not StoreFull where full and else StoreUnavailable.
        """
        if not OPERATIONS.issuperset(counted):
            raise ValueError(f"no operations of a store: {sorted(set(counted) - OPERATIONS)}")
        self.inner = inner
        self.fail_at = fail_at
        full, down = StoreFull("no space left"), StoreUnavailable("the store failed, as told")
        self.error = error or (full if fault is Fault.FULL else down)
        self.fault = fault
        self.counted = counted
        self.stays_down = stays_down
        self.meanwhile = meanwhile
        self.operations = 0  # counted so far: a run without a fault tells how many there are
        self._lock = threading.Lock()

    def heal(self) -> None:
        """Fail no more."""
        self.fail_at = None

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store an object, all or half of it, or nothing."""
        fault = self._fault("put")
        if fault is Fault.TORN:
            whole = b"".join(parts)
            self.inner.put(name, [whole[: len(whole) // 2]])
        elif fault not in _NOTHING_DONE:
            self.inner.put(name, parts)
        if fault:
            raise self.error

    def begin(self) -> Draft:
        """Return a draft whose `keep` is a put."""
        return BufferedDraft(self.put)

    def get(self, name: str) -> bytes:
        """Return an object."""
        self._perhaps_fail("get")
        return self.inner.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of an object."""
        self._perhaps_fail("get_range")
        return self.inner.get_range(name, offset, length)

    def size(self, name: str) -> int:
        """Return an object's length."""
        self._perhaps_fail("size")
        return self.inner.size(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield objects; fail before the first, or after the last."""
        fault = self._fault("list")
        if fault is not Fault.BEFORE:
            yield from self.inner.list(prefix)
        if fault:
            raise self.error

    def delete(self, name: str) -> None:
        """Remove an object, or not."""
        fault = self._fault("delete")
        if fault is not Fault.BEFORE:
            self.inner.delete(name)
        if fault:
            raise self.error

    def _perhaps_fail(self, operation: str) -> None:
        if self._fault(operation):
            raise self.error

    def _fault(self, operation: str) -> Fault | None:
        """Count an operation; return what is wrong with it."""
        with self._lock:
            failed_before = self.fail_at is not None and self.operations >= self.fail_at
            if self.stays_down and failed_before:
                return Fault.BEFORE
            if operation in self.counted:
                self.operations += 1
            now = operation in self.counted and self.operations == self.fail_at
        if self.fault is Fault.FULL:
            return Fault.FULL if operation == "put" and (now or failed_before) else None
        if now and self.fault is Fault.DELAYED:
            self.meanwhile()
            return None
        return self.fault if now else None
