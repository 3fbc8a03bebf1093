"""What was met lately, within bounds: two generations, of which the older one goes as a whole."""

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Keeps at least the last `most` values by key, and at most twice as many.

    About 80 bytes each, and the value.  (To drop the oldest one by one takes a dict time that
    grows with its size.)
    """

    def __init__(self, most: int) -> None:
        """Start empty."""
        self._most = most
        self._young: dict[int, Value] = {}
        self._old: dict[int, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def put(self, key: int, value: Value) -> None:
        """Keep a value."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def take(self, key: int) -> Value | None:
        """Return the value of a key and forget it, or None."""
        found = self._young.pop(key, None)
        return self._old.pop(key, None) if found is None else found
