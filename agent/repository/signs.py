"""Which snapshots show signs of an attack, and which came last before them."""

from collections.abc import Collection, Iterable

from agent.model.ids import HostId, SnapshotId
from agent.model.snapshot import Snapshot, SnapshotInfo


def unacknowledged(
    snapshots: Iterable[SnapshotInfo], acknowledged: Collection[SnapshotId] = ()
) -> list[SnapshotInfo]:
    """Return the snapshots with signs that nobody has looked at."""
    return [i for i in snapshots if i.snapshot.signs and i.id not in acknowledged]


def began(snapshot: Snapshot) -> int:
    """Return the sequence of the host's first snapshot that has some of what the signs count.

    What is slow is counted over several snapshots: those before the first with a sign are not
    clean either.
    """
    return min((sign.since or snapshot.sequence for sign in snapshot.signs), default=0)


def last_clean(
    snapshots: Iterable[SnapshotInfo], acknowledged: Collection[SnapshotId] = ()
) -> list[SnapshotInfo]:
    """Return, of each host that shows unacknowledged signs, the newest snapshot before they began.

    `snapshots` come chain by chain, in order.  A host with nothing before them has none.
    """
    chains: dict[HostId, list[SnapshotInfo]] = {}
    for info in snapshots:
        chains.setdefault(info.snapshot.host, []).append(info)
    found = (_clean_of(chain, acknowledged) for chain in chains.values())
    return [info for info in found if info is not None]


def _clean_of(
    chain: list[SnapshotInfo], acknowledged: Collection[SnapshotId]
) -> SnapshotInfo | None:
    first = next(iter(unacknowledged(chain, acknowledged)), None)
    if first is None:
        return None
    before = [i for i in chain if i.snapshot.sequence < began(first.snapshot)]
    return before[-1] if before else None
