"""What a verification found: counts, and each object that is not as it should be."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import RepositoryError, StoreUnavailable

MAX_FINDINGS = 1000  # more are counted: a repository that is gone must not fill memory

FROM_A_COPY = "`vitrine repair` heals it from its parity, or brings it back from a copy (--from)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is damaged, missing, or not where it should be."""

    name: str
    problem: str
    advice: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification."""

    packs: int
    indexes: int
    snapshots: int
    slots: int
    writers: int
    removals: int
    parity: int
    quarantined: int  # packs that `vitrine repair` put aside
    read_bytes: int
    unindexed_packs: int  # of the vaults whose keys were there: the next snapshot takes them up
    findings: tuple[Finding, ...]
    more_findings: int  # beyond those listed

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing was found."""
        return not self.findings


class Findings:
    """Collects.  Thread-safe."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._found: list[Finding] = []
        self._names: set[tuple[str, str]] = set()
        self._more = 0
        self._counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        """Count objects by the name of the report's field."""
        with self._lock:
            self._counts[what] += number

    def add(self, name: str, problem: str, advice: str = FROM_A_COPY) -> None:
        """Take one finding; the same one again is not counted twice."""
        with self._lock:
            if (name, problem) in self._names:
                return
            if len(self._found) == MAX_FINDINGS:
                self._more += 1
                return
            self._names.add((name, problem))
            self._found.append(Finding(name, problem, advice))

    def guard(self, name: str, check: Callable[[], object], advice: str = FROM_A_COPY) -> bool:
        """Run a check of the object `name`; tell whether it passed.

        One object that cannot be read is a finding; a store that cannot be listed is not.
        """
        try:
            check()
        except (RepositoryError, StoreUnavailable) as error:
            self.add(name, error.message, advice)
            return False
        return True

    def report(self) -> Report:
        """Return what was found."""
        counts = self._counts
        return Report(
            packs=counts["packs"],
            indexes=counts["indexes"],
            snapshots=counts["snapshots"],
            slots=counts["slots"],
            writers=counts["writers"],
            removals=counts["removals"],
            parity=counts["parity"],
            quarantined=counts["quarantined"],
            read_bytes=counts["read_bytes"],
            unindexed_packs=counts["unindexed_packs"],
            findings=tuple(sorted(self._found, key=lambda finding: finding.name)),
            more_findings=self._more,
        )
