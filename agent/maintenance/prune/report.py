"""What a run of prune found and did, in figures."""

from collections.abc import Collection, Mapping

import msgspec

from agent.maintenance.prune.fates import DAY_NS, Waits, grace_ns
from agent.model.ids import PackId
from agent.repository.condemned import Leaving, PackRecord


class PruneReport(msgspec.Struct, frozen=True):
    """What a run found and did; with a dry run, what it would have done."""

    vault: str
    packs: int
    bytes: int
    unused_bytes: int  # in packs that are partly needed, by the share of their plaintext
    noted: int  # in no snapshot, and waiting
    noted_bytes: int
    next_condemned_days: float | None  # until the first of them is
    condemned: int
    condemned_bytes: int
    next_deleted_days: float | None  # until the first of all is
    swept: int
    swept_bytes: int
    kept: int  # could have gone, but hold something needed that is nowhere else whole
    rewritten: int
    rewritten_bytes: int  # written anew
    dropped_indexes: int


class Waiting(msgspec.Struct, frozen=True):
    """The packs that a record has waiting: how much they are, and when they go on."""

    noted_bytes: int
    condemned_bytes: int
    next_condemned_days: float | None
    next_deleted_days: float | None


def waiting(record: PackRecord, sizes: Mapping[PackId, int], waits: Waits) -> Waiting:
    """Return what waits by a record, if prune runs once a day from now on."""
    noted = _left(record.unreferenced, waits.min_age_ns)
    condemned = _left(record.condemned, grace_ns(waits))
    deleted = [*condemned, *(left + grace_ns(waits) for left in noted)]
    return Waiting(
        noted_bytes=_bytes(record.unreferenced, sizes),
        condemned_bytes=_bytes(record.condemned, sizes),
        next_condemned_days=min(noted) / DAY_NS if noted else None,
        next_deleted_days=min(deleted) / DAY_NS if deleted else None,
    )


def _left(packs: Collection[Leaving], wait_ns: int) -> list[int]:
    return [max(wait_ns - one.age_ns, 0) for one in packs]


def _bytes(packs: Collection[Leaving], sizes: Mapping[PackId, int]) -> int:
    return sum(sizes.get(one.pack, 0) for one in packs)
