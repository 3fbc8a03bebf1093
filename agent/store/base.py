"""The storage contract.  Whatever keeps these rules can hold a repository.

The rules are the least that a directory and an object store have in common, so that neither needs
a trick: objects are put whole and never changed; there is no rename, no append, no lock.

1. **Names** are ASCII, `/`-separated, of `[a-z0-9.-]` segments, at most 200 characters; no empty
   segment, none that starts with a dot.  No name goes on where another ends: with `a` stored, the
   caller never puts `a/b`, which a directory could not hold.  Names never carry meaning from a
   source.
2. **put is atomic and durable.**  When it returns, the whole object survives a power cut, under
   that name; until it returns a reader sees nothing or the whole object, never a part.  A put that
   raised may have stored the whole object all the same, for the answer can be what was lost.
3. **put of a name that exists** with the same bytes succeeds, as durably, and changes nothing; with
   other bytes it raises ObjectExists and changes nothing.  (Object stores without a conditional put
   keep this for one writer at a time; names that two writers may want are content hashes.)
4. **get of what was put** returns exactly those bytes, or raises; never fewer.
5. **list** yields every object that was put before it began and not deleted, once; it may or may
   not yield later ones.  Order is unspecified.  Left-overs of an interrupted put are never listed,
   nor is what bears no object's name.  What cannot be listed is an error, never skipped.
6. **delete** of what is not there succeeds: deleting twice is deleting.  On return it survives a
   power cut, too: a keyslot that was destroyed does not come back.
7. **A draft** is a put in pieces, as object stores have uploads in parts: rules 2 and 3 hold of its
   `keep`, and until then nothing of it is there for anybody.  One that is dropped, or whose owner
   died, leaves nothing behind for long.
8. **Errors**: ObjectMissing names the object; ObjectDamaged says that it is shorter than was asked
   for; StoreFull says that space ran out and nothing was stored; everything else is
   StoreUnavailable with the reason.  No other exception leaves but ValueError, for a name, prefix
   or range that breaks the contract: a bug, never a user's mistake.

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


class Draft(Protocol):
    """An object that is put in pieces, and named at its end.  For one thread at a time."""

    def write(self, part: Part) -> None:
        """Append; `part` may be reused as soon as this returns.

        Raises StoreFull, StoreUnavailable; the draft is then dropped, and only raises.
        """
        ...

    def keep(self, name: str) -> None:
        """Put what was written as `name`, as `Store.put` does; the draft is then over."""
        ...

    def drop(self) -> None:
        """Forget what was written; after `keep`, or twice, this is nothing."""
        ...


class Store(Protocol):
    """Named, immutable, durable bytes.  The rules are in the module's docstring."""

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store the concatenation of `parts` as `name`, whole and durable on return.

        Raises ObjectExists (rule 3), StoreFull, StoreUnavailable.
        """
        ...

    def begin(self) -> Draft:
        """Return an object to be written piece by piece, without its being held in memory.

        Raises StoreFull, StoreUnavailable.
        """
        ...

    def get(self, name: str) -> bytes:
        """Return the whole object; raise ObjectMissing where there is none."""
        ...

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; a range that ends past the end raises ObjectDamaged.

        Raises ObjectMissing where there is no such object.
        """
        ...

    def size(self, name: str) -> int:
        """Return the object's length in bytes; raise ObjectMissing where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below `prefix`: a name and a `/`, or empty for all (rule 5).

        Memory does not grow with their number.  Below what is not there lies nothing.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove the object, if it is there (rule 6)."""
        ...


def is_name(name: str) -> bool:
    """Tell whether `name` keeps rule 1."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return `name`; raise ValueError where it breaks rule 1."""
    if not is_name(name):
        raise ValueError(f"not an object name: {name!r}")
    return name


def checked_prefix(prefix: str) -> str:
    """Return `prefix`; raise ValueError where it is neither empty nor a name and a `/`."""
    if prefix and not (prefix.endswith("/") and is_name(prefix[:-1])):
        raise ValueError(f"not a prefix of object names: {prefix!r}")
    return prefix


def checked_range(offset: int, length: int) -> tuple[int, int]:
    """Return both; raise ValueError where either is negative."""
    if offset < 0 or length < 0:
        raise ValueError(f"not a range of bytes: {length} from {offset}")
    return offset, length
