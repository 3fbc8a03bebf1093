"""The fate of each snapshot, and every reason for it: decided from values alone.

Buckets are restic's: of each of the last n hours (days, weeks, months, years) that have a snapshot
the newest is kept, for each host by itself.  A snapshot is kept if anything wants it kept.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, tzinfo
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from agent.clock import utc
from agent.model.ids import HostId, SnapshotId

_YEAR_NS = 31_557_600 * 10**9
_DAY_NS = 86_400 * 10**9


class Rules(NamedTuple):
    """What is to be kept.  All of them nothing: everything is."""

    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    newer_than_ns: int = 0  # everything younger
    minimum_age_ns: int = 0  # by law: nothing younger is removed, whatever the other rules say

    @property
    def remove_nothing(self) -> bool:
        """Tell whether there is no rule that lets anything go."""
        return not any(self._replace(minimum_age_ns=0))


class Candidate(NamedTuple):
    """A snapshot as retention sees it."""

    id: SnapshotId
    host: HostId
    sequence: int
    received_ns: int  # by the receiver's clock; never falls along a chain
    is_complete: bool


class Fate(NamedTuple):
    """What becomes of a snapshot."""

    candidate: Candidate
    keep: bool
    reasons: tuple[str, ...]  # why it is kept; or the one why it is not


_Period = Callable[[datetime], tuple[int, ...]]
_PERIODS: tuple[tuple[str, str, _Period], ...] = (
    ("hourly", "of its hour", lambda at: (at.toordinal(), at.hour)),
    ("daily", "of its day", lambda at: (at.toordinal(),)),
    ("weekly", "of its week", lambda at: tuple(at.isocalendar()[:2])),
    ("monthly", "of its month", lambda at: (at.year, at.month)),
    ("yearly", "of its year", lambda at: (at.year,)),
)


def decide(
    candidates: Iterable[Candidate],
    rules: Rules,
    *,
    now_ns: int,
    zone: tzinfo | None,
    held: Mapping[SnapshotId, str],
    pinned: Collection[SnapshotId] = (),
) -> list[Fate]:
    """Return the fate of each candidate, host by host, oldest first.

    `held` says why; `pinned` are the last clean ones before something suspicious.  `zone` is where
    hours and days are counted, None for this machine's.
    """
    ordered = sorted(candidates, key=attrgetter("host", "sequence"))
    fates: list[Fate] = []
    for _, group in groupby(ordered, key=attrgetter("host")):
        chain = list(group)
        reasons: dict[SnapshotId, list[str]] = {one.id: [] for one in chain}
        reasons[chain[-1].id].append("the newest of its host")
        if rules.remove_nothing:
            for one in chain:
                reasons[one.id].append("no rule lets it go")
        _buckets(chain, rules, zone, reasons)
        for one in chain:
            reasons[one.id] += _by_itself(one, rules, now_ns, held, pinned)
        fates += [_fate(one, reasons[one.id]) for one in chain]
    return fates


def _buckets(
    chain: list[Candidate], rules: Rules, zone: tzinfo | None, reasons: dict[SnapshotId, list[str]]
) -> None:
    for name, why, period in _PERIODS:
        count = getattr(rules, name)
        kept: dict[tuple[int, ...], Candidate] = {}
        for one in reversed(chain):
            key = period(utc(one.received_ns).astimezone(zone))
            if key not in kept:
                if len(kept) == count:
                    break
                kept[key] = one
            elif one.is_complete and not kept[key].is_complete:
                kept[key] = one  # an incomplete one never takes a complete one's place
        for one in kept.values():
            reasons[one.id].append(f"the newest {why}")


def _by_itself(
    one: Candidate, rules: Rules, now_ns: int, held: Mapping[SnapshotId, str],
    pinned: Collection[SnapshotId],
) -> list[str]:  # fmt: skip
    age = now_ns - one.received_ns
    reasons: list[str] = []
    if age < rules.newer_than_ns:
        reasons.append(f"younger than {_length(rules.newer_than_ns)}")
    if age < rules.minimum_age_ns:
        reasons.append(f"by law, younger than {_length(rules.minimum_age_ns)}")
    if one.id in held:
        reasons.append(f"held: {held[one.id]}")
    if one.id in pinned:
        reasons.append("the last clean one")
    return reasons


def _fate(one: Candidate, reasons: list[str]) -> Fate:
    if reasons:
        return Fate(one, True, tuple(dict.fromkeys(reasons)))
    return Fate(one, False, ("no rule keeps it",))


def _length(ns: int) -> str:
    if ns % _YEAR_NS == 0:
        return f"{ns // _YEAR_NS} years"
    return f"{ns / _DAY_NS:g} days"
