"""Figures as they come in, by case and program, and their medians."""

import statistics
from collections import defaultdict
from typing import NamedTuple

from benchmarks.measure import Cost

MB = 1e6


class Case(NamedTuple):
    """One row: what is measured, in what unit, and what it should come to at most."""

    key: str
    title: str
    unit: str = "s"  # or MB
    ratio_limit: float | None = None  # of the better peer's figure
    limit: float | None = None  # in the unit


# In the order of the report.  Limits are the project's own.
CASES = (
    Case("first", "first snapshot", ratio_limit=0.4),
    Case("stored", "stored by it", "MB", ratio_limit=0.75),
    Case("unchanged", "nothing changed, full scan", ratio_limit=0.3),
    Case("next-day", "next day", ratio_limit=0.4),
    Case("added", "added by it", "MB", ratio_limit=0.5),
    Case("open", "unlock to first byte", limit=1.5),
    Case("images", "mount: images read", ratio_limit=0.35),
    Case("records", "mount: records read", ratio_limit=0.5),
    Case("restore", "restore of everything", ratio_limit=0.5),
    Case("verify", "verify of all data", ratio_limit=0.7),
    Case("small-first", "small files: first snapshot", ratio_limit=0.8),
    Case("small-unchanged", "small files: nothing changed, full scan", ratio_limit=0.3),
    Case("small-changed", "small files: 3 changed, snapshot by the daemon", ratio_limit=0.03),
)


OURS = "vitrine"
PEERS = ("restic", "borg")


class Limit(NamedTuple):
    """Bytes that no lossless program could go below on a tree, by kind: benchmarks/entropy.py."""

    noise: float
    compressed: int
    text: int

    @property
    def total(self) -> float:
        """Return the bytes of all kinds."""
        return self.noise + self.compressed + self.text


class Results:
    """All figures of one run."""

    def __init__(self) -> None:
        """Start empty."""
        self._costs: dict[tuple[str, bool, str], list[Cost]] = defaultdict(list)
        self._figures: dict[tuple[str, bool, str], list[float]] = defaultdict(list)

    def add_cost(self, case: str, tool: str, cost: Cost, *, cold: bool) -> None:
        """Note what one act cost."""
        self._costs[case, cold, tool].append(cost)
        self._figures[case, cold, tool].append(cost.seconds)
        print(
            f"  {tool:8} {case:16}{' cold' * cold} {cost.seconds:8.2f} s"
            f"  {cost.cpu_seconds:7.2f} s of processor  {cost.peak_bytes / MB:5.0f} MB",
            flush=True,
        )

    def add_figure(self, case: str, tool: str, figure: float, *, cold: bool) -> None:
        """Note a figure in the case's unit."""
        self._figures[case, cold, tool].append(figure)
        print(f"  {tool:8} {case:16}{' cold' * cold} {figure:8.2f}", flush=True)

    def figure(self, case: str, tool: str, *, cold: bool) -> float | None:
        """Return the median, or None where nothing was measured."""
        figures = self._figures.get((case, cold, tool))
        return statistics.median(figures) if figures else None

    def ratio(self, case: str, *, cold: bool) -> float | None:
        """Return our figure over the better peer's, or None where one is lacking."""
        ours = self.figure(case, OURS, cold=cold)
        theirs = [self.figure(case, peer, cold=cold) for peer in PEERS]
        better = min((figure for figure in theirs if figure), default=None)
        return None if ours is None or better is None else ours / better

    def samples(self, case: str, *, cold: bool) -> int:
        """Return how many figures the medians of a case come from, at most."""
        counts = [len(v) for (c, t, _), v in self._figures.items() if (c, t) == (case, cold)]
        return max(counts, default=0)

    def cost(self, case: str, tool: str, *, cold: bool) -> Cost | None:
        """Return medians of time, and the highest peaks."""
        costs = self._costs.get((case, cold, tool))
        if not costs:
            return None
        return Cost(
            statistics.median(cost.seconds for cost in costs),
            statistics.median(cost.cpu_seconds for cost in costs),
            max(cost.peak_bytes for cost in costs),
            max(cost.largest_bytes for cost in costs),
        )
