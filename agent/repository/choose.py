"""Which snapshot is meant: the newest, or the one whose id begins like this."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from agent.clock import utc
from agent.errors import NameAmbiguous, NoSuchSnapshot
from agent.model.snapshot import SnapshotInfo

MIN_PREFIX = 4
_SEE = "`vitrine snapshots` lists them"
_HEX = frozenset("0123456789abcdef")

Snapshot = TypeVar("Snapshot")


class Named(NamedTuple):
    """What a snapshot goes by: its id in hexadecimal, and when it was taken."""

    id: str
    taken_ns: int


def newest(snapshots: Sequence[SnapshotInfo]) -> SnapshotInfo:
    """Return the one that was taken last; raise NoSuchSnapshot where there is none."""
    if not snapshots:
        raise NoSuchSnapshot("the vault has no snapshot yet")
    return max(snapshots, key=lambda info: (info.snapshot.taken_ns, info.snapshot.sequence))


def by_prefix(
    snapshots: Sequence[Snapshot], prefix: str, named: Callable[[Snapshot], Named]
) -> Snapshot:
    """Return the snapshot whose id begins with `prefix`; `named` says what each goes by.

    Raises NoSuchSnapshot, or NameAmbiguous with ids and times of those it fits.
    """
    wanted = prefix.lower()
    if len(wanted) < MIN_PREFIX or not set(wanted) <= _HEX:
        raise NoSuchSnapshot(
            f"a snapshot is named by at least {MIN_PREFIX} hexadecimal digits of its id", hint=_SEE
        )
    found = [one for one in snapshots if named(one).id.startswith(wanted)]
    if not found:
        raise NoSuchSnapshot(f"no snapshot's id begins with {wanted}", hint=_SEE)
    if len(found) > 1:
        lines = "; ".join(_line(named(one)) for one in found)
        raise NameAmbiguous(
            f"{wanted} fits {len(found)} snapshots: {lines}", hint="give more digits"
        )
    return found[0]


def name_of(info: SnapshotInfo) -> Named:
    """Return what a verified snapshot goes by."""
    return Named(info.id.hex(), info.snapshot.taken_ns)


def _line(name: Named) -> str:
    # 16 digits: two ids that share as many as people type still differ here
    return f"{name.id[:16]} of {utc(name.taken_ns):%Y-%m-%d %H:%M:%S} UTC"


def others(snapshots: Sequence[SnapshotInfo], chosen: SnapshotInfo) -> tuple[SnapshotInfo, ...]:
    """Return the newest snapshot of each other host: what this one does not cover."""
    latest: dict[bytes, SnapshotInfo] = {}
    for info in snapshots:
        host = info.snapshot.host
        if host != chosen.snapshot.host:
            latest[host] = newest([info, latest.get(host, info)])
    return tuple(latest.values())
