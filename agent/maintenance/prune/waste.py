"""How much of each pack is needed, and which are worth rewriting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.maintenance.prune.fates import Waits
from agent.maintenance.prune.marks import Marks
from agent.model.ids import PackId
from agent.repository.condemned import PackRecord
from agent.repository.index import Index
from agent.repository.reader import VaultReader


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run does."""

    waits: Waits = field(default_factory=Waits)
    used_share: float = 0.7  # packs used less than this are rewritten
    rewrite_bytes: int = 8 * 1024**3  # read for that in one run


class Found(NamedTuple):
    """A vault as it is."""

    listed: Index
    reader: VaultReader
    present: dict[PackId, int]
    missing: set[PackId]
    marks: Marks


class Waste(NamedTuple):
    """What of its packs is needed."""

    unreferenced: set[PackId]
    share: dict[PackId, float]  # needed of each of the others
    thin: list[PackId]  # of them, to be rewritten


def leaving_by(before: PackRecord) -> set[PackId]:
    """Return the packs that were on their way out."""
    return {one.pack for one in (*before.unreferenced, *before.condemned, *before.swept)}


def waste_of(found: Found, before: PackRecord, limits: Limits) -> Waste:
    """Return which packs nobody needs, and how much of the others."""
    present, leaving = found.present, leaving_by(before)
    used, total = found.marks.used_bytes(leaving), found.marks.total_bytes()
    unreferenced = {pack for pack in present if not used[pack]}
    share = {pack: used[pack] / max(total[pack], 1) for pack in present if used[pack]}
    return Waste(unreferenced, share, _thin(share, present, limits, leaving))


def _thin(
    share: Mapping[PackId, float], sizes: Mapping[PackId, int], limits: Limits,
    leaving: set[PackId],
) -> list[PackId]:  # fmt: skip
    """Return the packs to rewrite: those that give the most room first, within the limit."""
    candidates = [
        pack for pack, part in share.items() if part < limits.used_share and pack not in leaving
    ]
    candidates.sort(key=lambda pack: (-sizes[pack] * (1 - share[pack]), pack))
    chosen: list[PackId] = []
    left = limits.rewrite_bytes
    for pack in candidates:
        if sizes[pack] <= left:
            chosen.append(pack)
            left -= sizes[pack]
    return chosen
