"""What becomes of each pack, decided from values alone: the heart of pruning, tried exhaustively.

    unreferenced for MIN_AGE → condemned for GRACE → swept

MIN_AGE spares a run under way, whose packs are in no snapshot yet (two weeks, as `git gc`): without
it nothing would be lost, but no long run could commit.  GRACE outlasts what a writer may still rely
on (three leases at least).  Referenced again at any look: struck from the list.  Ages add up run by
run; a run adds at most MAX_STEP, so that a clock that jumped ahead takes nothing.
"""

from collections.abc import Collection
from typing import NamedTuple

from agent.model.ids import PackId
from agent.repository.condemned import MIN_GRACE_NS, Leaving, PackRecord

DAY_NS = 24 * 3600 * 10**9
MAX_STEP_NS = DAY_NS  # a run's share of time: prune once a day
SWEPT_KEPT_NS = 30 * DAY_NS  # for so long nobody may take a deleted pack for there


class Waits(NamedTuple):
    """How long a pack stays at each step."""

    min_age_ns: int = 14 * DAY_NS
    grace_ns: int = 7 * DAY_NS


class Fates(NamedTuple):
    """The record to write, and the packs that may go now."""

    record: PackRecord
    sweep: tuple[PackId, ...]


def grace_ns(waits: Waits) -> int:
    """Return how long a pack stays condemned: as asked for, but never too short to be safe."""
    return max(waits.grace_ns, MIN_GRACE_NS)


def decide(
    before: PackRecord,
    unreferenced: Collection[PackId],
    missing: Collection[PackId] = (),
    *,
    now_ns: int,
    elapsed_ns: int,
    waits: Waits,
) -> Fates:
    """Return what follows from the record before, and from the packs that nobody needs now.

    `unreferenced` are packs that are there; `missing` are listed and gone, and needed by nobody:
    to rely on them would be wrong at once, whoever lists them.  `elapsed_ns` is the time since
    `before`, as far as it is believed; negative or more than MAX_STEP_NS counts as nothing or that.
    """
    step = min(max(elapsed_ns, 0), MAX_STEP_NS) if before.number else 0
    grace = grace_ns(waits)
    ages = {one.pack: one.age_ns + step for one in before.unreferenced}
    doomed = {one.pack: one.age_ns + step for one in before.condemned}
    gone = {one.pack: one.age_ns + step for one in before.swept}
    noted: list[Leaving] = []
    condemned: list[Leaving] = []
    sweep: list[PackId] = []
    for pack in sorted({*unreferenced, *missing}):
        if pack in gone or doomed.get(pack, -1) >= grace:
            sweep.append(pack)  # or: its deletion was interrupted
        elif pack in doomed:
            condemned.append(Leaving(pack, doomed[pack]))
        elif pack in missing or ages.get(pack, -1) >= waits.min_age_ns:
            condemned.append(Leaving(pack))
        else:
            noted.append(Leaving(pack, ages.get(pack, 0)))
    swept = {pack: age for pack, age in gone.items() if age < SWEPT_KEPT_NS}
    swept |= dict.fromkeys(sweep, 0)
    number = before.number + 1
    is_condemning = any(one.pack not in doomed for one in condemned)
    record = PackRecord(
        before.vault,
        number,
        now_ns,
        tuple(noted),
        tuple(condemned),
        tuple(Leaving(pack, age) for pack, age in sorted(swept.items())),
        number if is_condemning else before.condemning,
    )
    return Fates(record, tuple(sweep))
