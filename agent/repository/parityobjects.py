"""Parity objects in a store: read though they be damaged, checked, and used to heal an object."""

from collections.abc import Callable
from contextlib import suppress

from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, ObjectMissing, RepositoryError, StoreUnavailable
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.parity import (
    HEAD,
    MAX_OBJECT_BYTES,
    PARITY_PIECES,
    Description,
    first_description,
    geometry_of,
    last_description,
    solve,
)
from agent.store.base import Store

_UNREADABLE = (ObjectDamaged, ObjectMissing, StoreUnavailable)  # a bad sector is as good as wrong


def check_parity(store: Store, name: str, size: int, *, read_data: bool) -> Description:
    """Return what a parity object of `size` bytes says; raise ObjectDamaged unless it is whole.

    Both descriptions are read, with `read_data` every parity piece too.  Whether it fits the
    object it is for only who reads that object can tell.
    """
    first, last = _first(store, name, size), _last(store, name, size)
    if first != last or size != first.geometry.parity_object_bytes:
        raise ObjectDamaged(f"{name} is damaged: it is not as long as it says, or says two things")
    pack = layout.pack_id(layout.parity_target(name) or "")
    if pack is not None and pack != first.digest:
        raise ObjectDamaged(f"{name} is parity of another pack")
    geometry = first.geometry
    for number in range(PARITY_PIECES * geometry.groups if read_data else 0):
        if not first.is_parity(number, store.get_range(name, *geometry.parity(number))):
            raise ObjectDamaged(f"{name} is damaged: a piece of it does not match its hash")
    return first


def check_target(store: Store, name: str, said: Description) -> None:
    """Raise ObjectDamaged where a small object is not what its parity was made of.

    One that is gone may have been removed on purpose: whether it should be there others tell.
    """
    with suppress(ObjectMissing):
        if object_name(get_bounded(store, name, MAX_OBJECT_BYTES)) != said.digest:
            raise ObjectDamaged(f"{name} is damaged: it is not what its parity was made of")


def healed(store: Store, name: str) -> bytearray | None:
    """Return an object's bytes as its parity proves them, or None where too much is lost.

    The object may be damaged, cut short, longer, unreadable in parts, or gone; the parity too.
    What is returned has the BLAKE3 that the parity names, for a pack the one in its name.
    Takes the memory of the object.
    """
    parity = layout.parity_of(name)
    description = _either(store, parity) if parity is not None else None
    if parity is None or description is None:
        return None
    pack = layout.pack_id(name)
    if pack is not None and pack != description.digest:
        return None
    return _Healing(store, name, parity, description).run()


class _Healing:
    """One object, put together again."""

    def __init__(self, store: Store, name: str, parity: str, description: Description) -> None:
        self._store = store
        self._name = name
        self._parity = parity
        self._description = description
        self._geometry = description.geometry
        self._room = bytearray(self._geometry.size)
        self._good: set[int] = set()

    def run(self) -> bytearray | None:
        self._read_what_is_left()
        for group in range(self._geometry.groups):
            if not self._good.issuperset(self._geometry.members(group)) and not self._solve(group):
                return None
        right = object_name(self._room) == self._description.digest
        return self._room if right else None

    def _read_what_is_left(self) -> None:
        for number in range(self._geometry.pieces):
            offset, length = self._geometry.piece(number)
            data = _range(self._store, self._name, offset, length)
            if self._description.is_piece(number, data):
                self._room[offset : offset + length] = data
                self._good.add(number)

    def _solve(self, group: int) -> bool:
        """Put a group's pieces in their places; tell whether enough of it was there."""
        geometry, members = self._geometry, self._geometry.members(group)
        known: dict[int, bytes | memoryview] = {}
        for place, number in enumerate(members):
            if number in self._good:
                offset, length = geometry.piece(number)
                known[place] = memoryview(self._room)[offset : offset + length]
        for row in range(PARITY_PIECES):
            number = geometry.parity_number(group, row)
            data = _range(self._store, self._parity, *geometry.parity(number))
            if self._description.is_parity(number, data):
                known[len(members) + row] = data
        pieces = solve(geometry, group, known)
        for number, piece in zip(members, pieces or (), strict=bool(pieces)):
            offset, length = geometry.piece(number)
            self._room[offset : offset + length] = piece
        return pieces is not None


def _either(store: Store, name: str) -> Description | None:
    """Return whichever description of a parity object can be read."""
    try:
        size = store.size(name)
    except _UNREADABLE:
        return None
    reads: tuple[Callable[[Store, str, int], Description], ...] = (_first, _last)
    for read in reads:
        with suppress(RepositoryError, StoreUnavailable):
            return read(store, name, size)
    return None


def _first(store: Store, name: str, size: int) -> Description:
    geometry = geometry_of(store.get_range(name, 0, min(HEAD.size, size)), name)
    return first_description(store.get_range(name, 0, geometry.description_bytes), name)


def _last(store: Store, name: str, size: int) -> Description:
    head = store.get_range(name, max(0, size - HEAD.size), min(HEAD.size, size))
    length = geometry_of(head, name).description_bytes
    if length > size:
        raise ObjectDamaged(f"{name} is cut short")
    return last_description(store.get_range(name, size - length, length), name)


def _range(store: Store, name: str, offset: int, length: int) -> bytes:
    """Return a stretch, or nothing where it cannot be read."""
    with suppress(*_UNREADABLE):
        return store.get_range(name, offset, length)
    return b""
