"""Which snapshot is meant: the newest, or the one whose id begins like this."""

from collections.abc import Sequence

from agent.clock import utc
from agent.errors import NameAmbiguous, NoSuchSnapshot
from agent.model.snapshot import SnapshotInfo

MIN_PREFIX = 4
_HEX = frozenset("0123456789abcdef")


def newest(snapshots: Sequence[SnapshotInfo]) -> SnapshotInfo:
    """Return the one that was taken last; raise NoSuchSnapshot where there is none."""
    if not snapshots:
        raise NoSuchSnapshot("the vault has no snapshot yet")
    return max(snapshots, key=lambda info: (info.snapshot.taken_ns, info.snapshot.sequence))


def by_prefix(snapshots: Sequence[SnapshotInfo], prefix: str) -> SnapshotInfo:
    """Return the snapshot whose id begins with `prefix`; raise NoSuchSnapshot or NameAmbiguous."""
    wanted = prefix.lower()
    if len(wanted) < MIN_PREFIX or not set(wanted) <= _HEX:
        raise NoSuchSnapshot(
            f"a snapshot is named by at least {MIN_PREFIX} hexadecimal digits of its id",
            hint="`vitrine snapshots` lists them",
        )
    found = [info for info in snapshots if info.id.hex().startswith(wanted)]
    if not found:
        raise NoSuchSnapshot(
            f"no snapshot's id begins with {wanted}", hint="`vitrine snapshots` lists them"
        )
    if len(found) > 1:
        raise NameAmbiguous(
            f"{wanted} fits {len(found)} snapshots: {'; '.join(map(_line, found))}",
            hint="give more digits",
        )
    return found[0]


def _line(info: SnapshotInfo) -> str:
    # 16 digits: two ids that share as many as people type still differ here
    return f"{info.id.hex()[:16]} of {utc(info.snapshot.taken_ns):%Y-%m-%d %H:%M:%S} UTC"


def others(snapshots: Sequence[SnapshotInfo], chosen: SnapshotInfo) -> tuple[SnapshotInfo, ...]:
    """Return the newest snapshot of each other host: what this one does not cover."""
    latest: dict[bytes, SnapshotInfo] = {}
    for info in snapshots:
        host = info.snapshot.host
        if host != chosen.snapshot.host:
            latest[host] = newest([info, latest.get(host, info)])
    return tuple(latest.values())
