"""A second repository, kept up to date by name: what it lacks is copied, each object checked first.

No key is needed, and none is touched.  Order: packs, their parity, indexes, what belongs to vaults,
snapshots; and what is to be copied is listed the other way round, so that the copy holds all that
its snapshots name, whatever is written meanwhile and wherever a run is stopped.  Nothing is ever
deleted in the copy, but revoked keyslots if that is asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from agent.errors import (
    NotARepository,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    RepositoryError,
    StoreUnavailable,
)
from agent.maintenance.heal import is_ours
from agent.maintenance.writeback import replace
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.genuine import Genuine
from agent.repository.indexcache import MAX_INDEX_BYTES
from agent.repository.parityobjects import healed
from agent.repository.vaults import open_repository
from agent.store.base import Listed, Store

WORKERS = 2  # each holds one object: 32 MiB, but for a rare larger one
_QUEUED = 4

Progress = Callable[[int, int], None]
"""Hears of (bytes copied, bytes to copy)."""


class CopyReport(msgspec.Struct, frozen=True):
    """What a run came to."""

    objects: int
    bytes: int
    healed: tuple[str, ...]  # damaged in the source; the copy has them as their parity proves them
    damaged: tuple[str, ...]  # in the source, and not copied
    extra_slots: int  # keyslots that the source no longer has, still in the copy
    revoked: int  # of them, deleted


@dataclass(slots=True)
class _Tally:
    objects: int = 0
    bytes: int = 0
    healed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Copying:
    """From one repository to another."""

    source: Store
    target: Store
    genuine: Genuine  # over the source

    def run(self, on_progress: Progress, *, revoke: bool = False) -> CopyReport:
        """Copy what the target lacks; raise ObjectExists where it is another repository.

        A damaged object is healed on its way or left out, and named: the others go on.
        """
        self._begin()
        # chains and what governs them one by one and in order: a copy never has a gap
        late = [sorted(self._missing((room,))) for room in ("snapshots/", layout.VAULTS)]
        late.append(list(self._missing(("index/",))))
        total = sum(one.size for room in late for one in room)
        total += sum(one.size for one in self._packs())
        tally = _Tally()
        # rooms one after another: none begins before the one that it relies on is all there
        for room in (self._missing(_rooms(layout.PACKS)), self._parity(), late.pop()):
            self._copy_all(room, WORKERS, tally, lambda: on_progress(tally.bytes, total))
        for room in reversed(late):
            self._copy_all(room, 1, tally, lambda: on_progress(tally.bytes, total))
        extra = list(self._extra_slots())
        for name in extra if revoke else ():
            self.target.delete(name)
        return CopyReport(
            objects=tally.objects,
            bytes=tally.bytes,
            healed=tuple(tally.healed),
            damaged=tuple(tally.damaged),
            extra_slots=len(extra),
            revoked=len(extra) if revoke else 0,
        )

    def _begin(self) -> None:
        """See that both are one repository, or begin the second."""
        ours = open_repository(self.source)
        try:
            theirs = open_repository(self.target)
        except NotARepository:
            if any(True for _ in self.target.list("")):
                raise
            self.target.put(layout.REPOSITORY, [get_bounded(self.source, layout.REPOSITORY)])
            return
        if theirs.id != ours.id:
            raise ObjectExists(
                "at the target lies another repository: nothing was copied",
                hint="copy to an empty directory, or to a copy of the same repository",
            )

    def _packs(self) -> Iterator[Listed]:
        yield from self._missing(_rooms(layout.PACKS))
        yield from self._parity()

    def _parity(self) -> Iterator[Listed]:
        small = (layout.PARITY + "snapshots/", layout.PARITY + layout.VAULTS)
        yield from self._missing((*_rooms(layout.PARITY), *small))
        name = layout.PARITY + layout.REPOSITORY
        size = _size(self.source, name)
        if size is not None and _size(self.target, name) != size:
            yield Listed(name, size)

    def _missing(self, rooms: Iterable[str]) -> Iterator[Listed]:
        """Yield what the target lacks, or has cut short; memory holds the names of one room."""
        for room in rooms:
            there = {one.name: one.size for one in self.target.list(room)}
            for listed in self.source.list(room):
                if is_ours(listed.name) and there.get(listed.name) != listed.size:
                    yield listed

    def _extra_slots(self) -> Iterator[str]:
        there = {one.name for one in self.source.list(layout.VAULTS)}
        for listed in list(self.target.list(layout.VAULTS)):
            if layout.slot_vault(listed.name) is not None and listed.name not in there:
                yield listed.name

    def _copy_all(
        self, listed: Iterable[Listed], workers: int, tally: _Tally, on_object: Callable[[], None]
    ) -> None:
        """Copy what is listed; the first failure of the target's is raised, and ends it."""
        queued: dict[Future[str], Listed] = {}
        with ThreadPoolExecutor(workers, "copy") as pool:
            for one in listed:
                queued[pool.submit(self._copied, one.name)] = one
                if len(queued) >= (_QUEUED if workers > 1 else 1):
                    _reap(queued, tally)
                    on_object()
            while queued:
                _reap(queued, tally)
                on_object()

    def _copied(self, name: str) -> str:
        """Copy one object; return what became of it."""
        try:
            data: bytes | bytearray = get_bounded(self.source, name, MAX_INDEX_BYTES)
            self.genuine.check(name, data)
        except ObjectMissing:
            return _GONE
        except (RepositoryError, StoreUnavailable):
            proven = self._healed(name)
            if proven is None:
                return _DAMAGED
            self._put(name, proven)
            return _HEALED
        self._put(name, data)
        return _COPIED

    def _put(self, name: str, data: bytes | bytearray) -> None:
        try:
            self.target.put(name, [data])
        except ObjectExists:  # which is then damaged: names say what the bytes are
            replace(self.target, name, [data])

    def _healed(self, name: str) -> bytearray | None:
        proven = healed(self.source, name)
        return proven if proven is not None and self.genuine.passes(name, proven) else None


_COPIED, _HEALED, _DAMAGED, _GONE = "copied", "healed", "damaged", "gone"


def _reap(queued: dict[Future[str], Listed], tally: _Tally) -> None:
    done, _ = wait(queued, return_when=FIRST_COMPLETED)
    for future in done:
        listed, what = queued.pop(future), future.result()
        if what == _DAMAGED:
            tally.damaged.append(listed.name)
        if what == _HEALED:
            tally.healed.append(listed.name)
        if what in {_COPIED, _HEALED}:
            tally.objects += 1
            tally.bytes += listed.size


def _rooms(room: str) -> Iterator[str]:
    """Yield the 256 directories of packs or their parity."""
    return (f"{room}{first:02x}/" for first in range(256))


def _size(store: Store, name: str) -> int | None:
    with suppress(ObjectMissing, ObjectDamaged):
        return store.size(name)
    return None
