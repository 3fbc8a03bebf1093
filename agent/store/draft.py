"""A draft for stores that put an object whole: it is kept in memory until then."""

from collections.abc import Callable, Sequence

from agent.errors import StoreUnavailable
from agent.store.base import Part


class BufferedDraft:
    """Gathers the pieces of an object, and puts them."""

    def __init__(self, put: Callable[[str, Sequence[Part]], None]) -> None:
        """Take the store's `put`."""
        self._put = put
        self._parts: list[bytes] | None = []

    def write(self, part: Part) -> None:
        """Append a copy."""
        self._open().append(bytes(part))

    def keep(self, name: str) -> None:
        """Put what was written."""
        parts = self._open()
        self.drop()
        self._put(name, parts)

    def drop(self) -> None:
        """Forget what was written."""
        self._parts = None

    def _open(self) -> list[bytes]:
        if self._parts is None:
            raise StoreUnavailable("a draft is over, and takes nothing more")
        return self._parts
