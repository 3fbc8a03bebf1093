"""A store in memory, for tests and for planning: it keeps every rule but outliving its process."""

import threading
from collections.abc import Iterator, Sequence

from agent.errors import ObjectDamaged, ObjectExists, ObjectMissing
from agent.store.base import Draft, Listed, Part, checked_name, checked_prefix, checked_range
from agent.store.draft import BufferedDraft


class MemoryStore:
    """Objects in a dictionary."""

    def __init__(self) -> None:
        """Start empty."""
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store the concatenation of `parts` as `name`."""
        data = b"".join(parts)
        with self._lock:
            if self._objects.setdefault(checked_name(name), data) != data:
                raise ObjectExists(f"{name} exists with other content")

    def begin(self) -> Draft:
        """Return an object to be written piece by piece."""
        return BufferedDraft(self.put)

    def get(self, name: str) -> bytes:
        """Return the whole object."""
        try:
            return self._objects[checked_name(name)]
        except KeyError:
            raise ObjectMissing(f"{name} is not in the repository") from None

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        start, wanted = checked_range(offset, length)
        data = self.get(name)[start : start + wanted]
        if len(data) < wanted:
            raise ObjectDamaged(f"{name} ends before byte {start + wanted}")
        return data

    def size(self, name: str) -> int:
        """Return the object's length in bytes."""
        return len(self.get(name))

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below `prefix`, as they were when the listing began."""
        checked_prefix(prefix)
        with self._lock:
            found = [
                Listed(name, len(data))
                for name, data in self._objects.items()
                if name.startswith(prefix)
            ]
        yield from found

    def delete(self, name: str) -> None:
        """Remove the object, if it is there."""
        with self._lock:
            self._objects.pop(checked_name(name), None)
