"""Parity for what has none yet: made of objects that were found to be what their names say.

Needs no key.  An object that is damaged gets none: parity of damage would keep the damage.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import msgspec

from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, ObjectMissing, RepositoryError, StoreUnavailable
from agent.maintenance.writeback import put_over
from agent.model.ids import VaultId
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.genuine import Genuine
from agent.repository.parity import MAX_OBJECT_BYTES, encode
from agent.repository.removals import Removals
from agent.store.base import Listed, Store

WORKERS = 2  # each holds one pack: 32 MiB and its parity
_BATCH = 16
_SMALL = (layout.VAULTS, "snapshots/")

Progress = Callable[[int, int], None]
"""Hears of (bytes read, bytes to read)."""


class ParityReport(msgspec.Struct, frozen=True):
    """What a run made."""

    made: int
    made_bytes: int
    read_bytes: int
    dropped: int  # parity of records that are gone
    left: int  # without parity still: the run's budget was used up
    left_bytes: int
    damaged: tuple[str, ...]  # no parity for these: `vitrine repair`


def make_missing(
    store: Store, genuine: Genuine, *, budget_bytes: int, on_progress: Progress
) -> ParityReport:
    """Make parity for every object that should have some, reading `budget_bytes` at most.

    Whatever stops it, the next run goes on: what is there is not made again.
    """
    total = sum(listed.size for listed in _without(store))
    tally = _Tally()
    waiting = _without(store)
    with ThreadPoolExecutor(WORKERS, "parity") as workers:
        while batch := list(islice(waiting, _BATCH)):
            if tally.read_bytes >= budget_bytes:
                tally.leave(batch)
                continue
            sizes = workers.map(lambda listed: _made(store, genuine, listed.name), batch)
            for one, size in zip(batch, sizes, strict=True):
                tally.take(one, size)
                on_progress(tally.read_bytes, total)
    return tally.report(_drop_orphans(store))


class _Tally:
    """What a run has come to so far."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self._made: list[int] = []
        self._left: list[int] = []
        self._damaged: list[str] = []

    def take(self, listed: Listed, size: int) -> None:
        """Note an object that was read, and how much parity it got."""
        self.read_bytes += listed.size
        if size:
            self._made.append(size)
        else:
            self._damaged.append(listed.name)

    def leave(self, batch: Sequence[Listed]) -> None:
        """Note what is for the next run."""
        self._left += [listed.size for listed in batch]

    def report(self, dropped: int) -> ParityReport:
        """Return it."""
        return ParityReport(
            made=len(self._made),
            made_bytes=sum(self._made),
            read_bytes=self.read_bytes,
            dropped=dropped,
            left=len(self._left),
            left_bytes=sum(self._left),
            damaged=tuple(self._damaged),
        )


def make(store: Store, genuine: Genuine, name: str) -> int:
    """Make an object's parity, again where there is some; return its size.

    Raises ObjectDamaged where the object is not what its name says, ObjectMissing where it is gone.
    """
    parity = layout.parity_of(name)
    if parity is None:
        raise ObjectDamaged(f"{name} is of no kind that has parity")
    data = get_bounded(store, name, MAX_OBJECT_BYTES)
    genuine.check(name, data)
    parts = encode(data, object_name(data))
    put_over(store, parity, parts)
    return sum(map(len, parts))


def _made(store: Store, genuine: Genuine, name: str) -> int:
    """Make parity; return its size, 0 where the object is damaged or went meanwhile."""
    try:
        return make(store, genuine, name)
    except (RepositoryError, StoreUnavailable):
        return 0


def _without(store: Store) -> Iterator[Listed]:
    """Yield what should have parity and has none; memory holds a 256th of the packs' names."""
    for first in range(256):
        there = {one.name for one in store.list(f"{layout.PARITY}{first:02x}/")}
        for listed in store.list(f"{layout.PACKS}{first:02x}/"):
            parity = layout.parity_of(listed.name)
            if parity is not None and parity not in there:
                yield listed
    yield from _small_without(store)


def _small_without(store: Store) -> Iterator[Listed]:
    there = {one.name for room in _SMALL for one in store.list(layout.PARITY + room)}
    for room in _SMALL:
        for listed in store.list(room):
            parity = layout.parity_of(listed.name)
            if parity is not None and parity not in there:
                yield listed
    size = _size(store, layout.REPOSITORY)
    if size is not None and _size(store, layout.PARITY + layout.REPOSITORY) is None:
        yield Listed(layout.REPOSITORY, size)


def _size(store: Store, name: str) -> int | None:
    try:
        return store.size(name)
    except ObjectMissing:
        return None


def _drop_orphans(store: Store) -> int:
    """Delete parity of numbered records that newer ones replaced; return how many.

    Of other objects it stays: a snapshot that is gone may have been lost, and comes back from it.
    Only a vault's keys tell which were removed (`drop_removed`).
    """
    dropped = 0
    there = {one.name for one in store.list(layout.VAULTS)}
    for listed in list(store.list(layout.PARITY + layout.VAULTS)):
        target = listed.name.removeprefix(layout.PARITY)
        if layout.pack_record_number(target) is not None and target not in there:
            store.delete(listed.name)
            dropped += 1
    return dropped


def drop_removed(store: Store, vault: VaultId, removals: Removals) -> int:
    """Delete the parity of snapshots that retention removed; return how many."""
    dropped = 0
    for listed in list(store.list(layout.PARITY + layout.snapshots(vault))):
        place = layout.snapshot_place(listed.name.removeprefix(layout.PARITY))
        if place in removals.removed:
            store.delete(listed.name)
            dropped += 1
    return dropped
