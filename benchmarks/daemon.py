"""The cases on many small files: scans by every program, and three changes that a daemon notices.

restic has no daemon: its figure for the changes is a run over everything, which is what its users
have a timer do.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import small_files
from benchmarks.measure import metered, settle_disk
from benchmarks.ours import Vitrine
from benchmarks.results import Results
from benchmarks.tool import Tool

_CHANGES = 3


class SmallFileCases:
    """Runs rounds on one tree; programs keep their repositories from scan to scan."""

    def __init__(
        self, tree: Path, files: int, tools: Sequence[Tool], wanted: set[str], results: Results
    ) -> None:
        """Take the programs, which protect `tree`, and the cases to measure."""
        self._tree = tree
        self._files = files
        self._tools = list(tools)
        self._wanted = wanted
        self._results = results

    def generate(self) -> None:
        """Make the tree."""
        small_files.generate(self._tree, self._files, max(_CHANGES, self._files // 1000), 1)

    def round(self, number: int) -> None:
        """Measure every case once."""
        tools = self._tools if number % 2 == 0 else self._tools[::-1]
        for tool in tools:
            tool.create()
            settle_disk(cold=False)
            cost = tool.backup()
            if "small-first" in self._wanted:
                self._results.add_cost("small-first", tool.name, cost, cold=False)
        if "small-unchanged" in self._wanted:
            for tool in tools:
                settle_disk(cold=False)
                self._results.add_cost("small-unchanged", tool.name, tool.backup(), cold=False)
        if "small-changed" in self._wanted:
            for tool in tools:
                self._changed(tool, seed=number)

    def _changed(self, tool: Tool, seed: int) -> None:
        if isinstance(tool, Vitrine):
            self._noticed(tool, seed)
            return
        small_files.change(self._tree, _CHANGES, seed)
        settle_disk(cold=False)
        self._results.add_cost("small-changed", tool.name, tool.backup(), cold=False)

    def _noticed(self, vitrine: Vitrine, seed: int) -> None:
        """Change files under a running daemon; count from the end of the settle time."""
        with vitrine.running() as pid:
            before = vitrine.snapshots_stored()
            settle_disk(cold=False)
            with metered(pid) as meter:
                small_files.change(self._tree, _CHANGES, seed)
                due = time.monotonic() + vitrine.settle_seconds
                stored = vitrine.wait_for_snapshot(before + 1)
            vitrine.check_nothing_waits()
        cost = meter.cost._replace(seconds=stored - due)
        self._results.add_cost("small-changed", vitrine.name, cost, cold=False)
