"""The storage contract.  Whatever keeps these rules can hold a repository.

The rules are the least that a directory and an object store have in common, so that neither needs
a trick: objects are put whole and never changed; there is no rename, no append, no lock.

1. **Names** are ASCII, `/`-separated, of `[a-z0-9.-]` segments, at most 200 characters; no empty
   segment, none that starts with a dot.  Names never carry meaning from a source.
2. **put is atomic and durable.**  When it returns, the whole object survives a power cut, under
   that name; until it returns a reader sees nothing or the whole object, never a part.
3. **put of a name that exists** with the same bytes succeeds and changes nothing; with other bytes
   it raises ObjectExists and changes nothing.  (Object stores without a conditional put keep this
   for one writer at a time; names that two writers may want are content hashes.)
4. **get of what was put** returns exactly those bytes, or raises; never fewer.
5. **list** yields every object that was put before it began and not deleted; it may or may not
   yield later ones.  Order is unspecified.  Left-overs of an interrupted put are never listed.
6. **delete** of what is not there succeeds: deleting twice is deleting.
7. **Errors**: ObjectMissing names the object; StoreFull says that space ran out and nothing was
   stored; everything else is StoreUnavailable with the reason.  No other exception leaves.

Calls block and may be made from any number of threads at once.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

Part = bytes | bytearray | memoryview

MAX_NAME = 200
_NAME = re.compile(r"(?:[a-z0-9-][a-z0-9.-]*/)*[a-z0-9-][a-z0-9.-]*")


class Listed(NamedTuple):
    """An object as a listing shows it."""

    name: str
    size: int


class Store(Protocol):
    """Named, immutable, durable bytes.  The rules are in the module's docstring."""

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store the concatenation of `parts` as `name`, whole and durable on return."""
        ...

    def get(self, name: str) -> bytes:
        """Return the whole object."""
        ...

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; a range past the end raises ObjectDamaged."""
        ...

    def size(self, name: str) -> int:
        """Return the object's length in bytes."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below `prefix`, a name that ends in `/`, or empty for all."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object, if it is there."""
        ...


def checked_name(name: str) -> str:
    """Return `name`; raise ValueError where it breaks rule 1: a bug, never a user's mistake."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"not an object name: {name!r}")
    return name
