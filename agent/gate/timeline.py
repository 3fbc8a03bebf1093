"""A vault's history at a glance: calm stretches folded, and where signs of an attack began."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from agent.clock import utc
from agent.control.gate_messages import Attack, SignLine, Timeline, TimelinePoint
from agent.errors import ConfigInvalid
from agent.model.snapshot import Changes, Sign, SnapshotInfo
from agent.repository.signs import began

MOST_POINTS: Final = 120  # folded until there are no more: three screens
MOST_UNFOLDED: Final = 5_000  # of about 300 bytes: within the longest message
PAUSE_NS: Final = 24 * 3600 * 10**9  # without a sign: the next one is another attack
_FORMATS: Final = {"snapshot": "", "hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m"}
_NOT_COUNTED: Final = Changes()


class Chain(NamedTuple):
    """The snapshots of one host in one vault, in order."""

    vault: str
    infos: Sequence[SnapshotInfo]


def timeline(chains: Sequence[Chain], by: str = "") -> Timeline:
    """Return what happened, oldest first, folded `by` hour, day or month, or as far as needed.

    Where an attack began and the last snapshot before it always stand alone.  Raises
    ConfigInvalid for another unit.
    """
    if by and by not in _FORMATS:
        raise ConfigInvalid(f"{by!r} is no unit", hint=f"known are: {', '.join(_FORMATS)}")
    attacks = [attack for chain in chains for attack in attacks_on(chain)]
    points: list[TimelinePoint] = []
    unit = by
    for unit in [by] if by else _FORMATS:
        points = [p for chain in chains for p in _points(chain, attacks, _FORMATS[unit])]
        if len(points) <= MOST_POINTS:
            break
    points.sort(key=lambda point: point.taken_ns)
    older = max(0, len(points) - MOST_UNFOLDED)
    return Timeline(tuple(points[older:]), tuple(attacks), unit, older)


def attacks_on(chain: Chain) -> Iterator[Attack]:
    """Yield when signs began to show, and what was the last clean snapshot, once for each attack.

    A later attack's last clean snapshot is clean of that attack alone.
    """
    last_ns = None
    for info in chain.infos:
        if not info.snapshot.signs:
            continue
        taken_ns = info.snapshot.taken_ns
        if last_ns is None or taken_ns - last_ns > PAUSE_NS:
            yield _attack(chain, began(info.snapshot))
        last_ns = taken_ns


def _attack(chain: Chain, began_at: int) -> Attack:
    first = next(i for i in chain.infos if i.snapshot.sequence >= began_at)
    before = [i for i in chain.infos if i.snapshot.sequence < began_at]
    clean = before[-1] if before else None
    return Attack(
        vault=chain.vault,
        host=first.snapshot.host.hex(),
        began=first.id.hex(),
        began_ns=first.snapshot.taken_ns,
        last_clean=clean.id.hex() if clean else "",
        last_clean_ns=clean.snapshot.taken_ns if clean else 0,
    )


def _points(chain: Chain, attacks: Sequence[Attack], form: str) -> Iterator[TimelinePoint]:
    marks = {attack.last_clean: "last clean" for attack in attacks if attack.last_clean}
    marks |= {attack.began: "began" for attack in attacks}

    def stretch(info: SnapshotInfo) -> tuple[str, bool, str]:
        time = f"{utc(info.snapshot.taken_ns).astimezone():{form}}" if form else info.id.hex()
        return time, bool(info.snapshot.signs), info.id.hex() if info.id.hex() in marks else ""

    for (_, _, marked), infos in groupby(chain.infos, key=stretch):
        yield _point(chain.vault, list(infos), marks.get(marked, ""))


def _point(vault: str, infos: Sequence[SnapshotInfo], mark: str) -> TimelinePoint:
    last = infos[-1]
    changes = [info.snapshot.changes or _NOT_COUNTED for info in infos]
    return TimelinePoint(
        vault=vault,
        host=last.snapshot.host.hex(),
        id=last.id.hex(),
        sequence=last.snapshot.sequence,
        snapshots=len(infos),
        first_ns=infos[0].snapshot.taken_ns,
        taken_ns=last.snapshot.taken_ns,
        files=last.snapshot.files,
        bytes=last.snapshot.bytes,
        added=sum(c.added for c in changes),
        changed=sum(c.changed for c in changes),
        removed=sum(c.removed for c in changes),
        moved=sum(c.moved for c in changes),
        new_bytes=sum(c.added_bytes + c.changed_bytes for c in changes),
        stored_bytes=sum(info.snapshot.added_bytes for info in infos),
        counted=all(info.snapshot.changes is not None for info in infos),
        signs=tuple(_largest(sign for info in infos for sign in info.snapshot.signs)),
        mark=mark,
    )


def _largest(signs: Iterable[Sign]) -> Iterator[SignLine]:
    """Yield one sign a kind: counts within a window of time grow, so the largest says most."""
    found: dict[str, Sign] = {}
    for sign in signs:
        if sign.kind not in found or sign.count >= found[sign.kind].count:
            found[sign.kind] = sign
    for sign in found.values():
        yield SignLine(sign.kind, sign.count, sign.of)
