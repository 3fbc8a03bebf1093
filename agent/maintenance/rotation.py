"""Verification by thirtieths: each day every byte of one, so that a month has read them all.

What belongs to a thirtieth the object's name tells, so that no list is kept.  The one that was read
longest ago comes next: a day that was missed is made up for.  What is damaged is healed at once.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.crypto.naming import object_name
from agent.errors import ObjectMissing, RepositoryError, StoreUnavailable
from agent.maintenance.heal import Healer, How, is_ours
from agent.maintenance.rotationstate import PARTS, Part, Rotation, load, save
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.indexcache import MAX_INDEX_BYTES
from agent.repository.packtable import check_bytes, check_structure
from agent.repository.parityobjects import check_parity, check_target
from agent.store.base import Listed, Store

_LARGE = (layout.PACKS, layout.PARITY)
_SMALL = (layout.VAULTS, "snapshots/", "index/")

Progress = Callable[[int, int], None]
"""Hears of (bytes read, bytes to read; 0 where that is not known)."""


class RotationReport(msgspec.Struct, frozen=True):
    """What a run read and found."""

    parts: tuple[int, ...]
    objects: int
    read_bytes: int
    healed: tuple[str, ...]
    damaged: tuple[str, ...]  # and not healed
    rotation: Rotation


@dataclass(slots=True)
class _Found:
    objects: int = 0
    read_bytes: int = 0
    healed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RotatingVerify:
    """Reads what is due.  Needs no key; those that the healer has let it check more."""

    store: Store
    healer: Healer
    clock: Clock
    state: Path  # a file of maintenance's own

    def run(self, on_progress: Progress, *, repair: bool) -> RotationReport:
        """Read what is due, heal it if `repair`, and remember; stopped, it begins the part anew."""
        if repair:
            self.healer.finish()
        rotation, found = load(self.state), _Found()
        due = rotation.due(self.clock.now_ns())
        for number in due:
            before = len(found.damaged)
            for listed in _part(self.store, number):
                self._check(listed, found, repair=repair)
                on_progress(found.read_bytes, 0)
            lost = len(found.damaged) - before
            rotation = rotation.noted(number, Part(self.clock.now_ns(), lost))
            save(self.state, rotation)
        return RotationReport(
            parts=tuple(due),
            objects=found.objects,
            read_bytes=found.read_bytes,
            healed=tuple(found.healed),
            damaged=tuple(found.damaged),
            rotation=rotation,
        )

    def _check(self, listed: Listed, found: _Found, *, repair: bool) -> None:
        found.objects += 1
        found.read_bytes += listed.size
        try:
            self._read(listed)
        except ObjectMissing:
            return  # pruned since it was listed: what should be there `vitrine verify` tells
        except (RepositoryError, StoreUnavailable):
            how = self.healer.heal(listed.name) if repair else How.NOT
            heals = {How.PARITY, How.COPY, How.AGAIN}
            (found.healed if how in heals else found.damaged).append(listed.name)

    def _read(self, listed: Listed) -> None:
        """Raise what is wrong with an object; read every byte of it."""
        name, pack = listed.name, layout.pack_id(listed.name)
        if pack is not None:
            check_bytes(self.store, pack, listed.size)
            check_structure(self.store, pack, listed.size)
        elif layout.parity_target(name) is not None:
            check_parity(self.store, name, listed.size, read_data=True)
        else:
            self.healer.genuine.check(name, get_bounded(self.store, name, MAX_INDEX_BYTES))
            self._compare(name)

    def _compare(self, name: str) -> None:
        """Compare a small object with its parity, where it has some that is whole."""
        parity, said = layout.parity_of(name), None
        if parity is not None:
            with suppress(RepositoryError, StoreUnavailable):  # it is read by itself as well
                said = check_parity(self.store, parity, self.store.size(parity), read_data=True)
        if said is not None:
            check_target(self.store, name, said)


def part_of(name: str) -> int:
    """Return which thirtieth an object belongs to; a pack and its parity to the same."""
    pack = layout.pack_id(layout.parity_target(name) or name)
    first = int.from_bytes((pack or object_name(name.encode()))[:2], "big")
    return first * PARTS >> 16


def _part(store: Store, number: int) -> Iterator[Listed]:
    """Yield the objects of one thirtieth: packs and their parity, then the small ones."""
    first, last = (number << 16) // PARTS >> 8, ((number + 1 << 16) - 1) // PARTS >> 8
    rooms = [f"{room}{byte:02x}/" for byte in range(first, last + 1) for room in _LARGE]
    rooms += [*_SMALL, *(layout.PARITY + room for room in _SMALL[:2])]
    for room in rooms:
        for listed in list(store.list(room)):
            if part_of(listed.name) == number and is_ours(listed.name):
                yield listed
