"""Measure Vitrine beside restic and borg: `python -m benchmarks`, or `make bench`.

Writes docs/benchmarks.md unless --quick is given or only some cases are measured.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.borg import Borg
from benchmarks.cases import HospitalCases, Size
from benchmarks.daemon import SmallFileCases
from benchmarks.hospital import size_of
from benchmarks.measure import can_drop_caches
from benchmarks.ours import Vitrine
from benchmarks.report import Setting
from benchmarks.restic import Restic
from benchmarks.results import CASES, Limit, Results
from benchmarks.tool import Tool

_DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_SETTLE_S, _QUICK_SETTLE_S = 5.0, 0.5
_QUICK = {"files": 200, "bytes": 12_000_000, "small_files": 600, "rounds": 1, "no_cold": True}
_PEERS = (Restic, Borg)
_KEYS = [case.key for case in CASES]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit status."""
    options = _options(arguments)
    wanted = set(options.case or _KEYS)
    results = Results()
    load, *_ = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as directory:
        scratch = Path(directory)
        floor = _hospital(scratch, options, wanted, results)
        _small(scratch, options, wanted, results)
    for cold in (False, True):
        lines = report.table(results, cold=cold)
        if lines:
            print("\n" + ("Cold cache" if cold else "Warm cache"), *lines, sep="\n")
    if options.output:
        options.output.write_text(report.document(results, _setting(options, load, floor)))
        print(f"\nwritten: {options.output}")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--files", type=int, default=21_000, help="of the hospital-like tree")
    parser.add_argument("--bytes", type=size_of, default=size_of("1.3G"), help="of the same")
    parser.add_argument("--small-files", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-cold", action="store_true", help="measure no cold caches")
    parser.add_argument("--case", action="append", choices=_KEYS, help="only this; repeatable")
    parser.add_argument("--quick", action="store_true", help="tiny trees: only see that all runs")
    parser.add_argument("--scratch", type=Path, help="where there is room; by default TMPDIR")
    parser.add_argument("--output", type=Path, help="write the report there")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(_QUICK)
    elif not options.case and options.output is None:
        options.output = _DOCUMENT
    return options


def _tools(scratch: Path, source: Path, options: argparse.Namespace) -> list[Tool]:
    settle = _QUICK_SETTLE_S if options.quick else _SETTLE_S
    name = source.name
    tools: list[Tool] = [Vitrine(scratch / f"v-{name}", source, settle)]
    for peer in _PEERS:
        if peer.is_installed():
            tools.append(peer(scratch / f"{peer.name}-{name}", source))
        else:
            print(f"{peer.name} is not installed: it is left out")
    return tools


def _hospital(
    scratch: Path, options: argparse.Namespace, wanted: set[str], results: Results
) -> Limit | None:
    """Measure the cases on the hospital-like tree; return how small that could get at all."""
    if all(key.startswith("small-") for key in wanted):
        return None
    print(f"hospital-like tree: {options.files:,} files, {options.bytes / 1e6:,.0f} MB")
    tools = _tools(scratch, scratch / "hospital", options)
    cases = HospitalCases(scratch, Size(options.files, options.bytes), tools, wanted, results)
    cases.generate()
    for number in range(options.rounds):
        print(f"round {number + 1}, warm", flush=True)
        cases.round(number, cold=False)
    if not options.no_cold and can_drop_caches():
        print("one round, cold", flush=True)
        cases.round(options.rounds, cold=True)
    return cases.limit() if options.output else None


def _small(scratch: Path, options: argparse.Namespace, wanted: set[str], results: Results) -> None:
    if not any(key.startswith("small-") for key in wanted):
        return
    print(f"small files: {options.small_files:,}")
    tree = scratch / "small"
    cases = SmallFileCases(
        tree, options.small_files, _tools(scratch, tree, options), wanted, results
    )
    cases.generate()
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        cases.round(number)


def _setting(options: argparse.Namespace, load: float, floor: Limit | None) -> Setting:
    return Setting(
        command=" ".join(["python -m benchmarks", *sys.argv[1:]]),
        date=datetime.now(UTC).date().isoformat(),
        files=options.files,
        bytes=options.bytes,
        small_files=options.small_files,
        settle_seconds=_QUICK_SETTLE_S if options.quick else _SETTLE_S,
        peers=", ".join(peer.version() for peer in _PEERS if peer.is_installed()),
        load=load,
        limit=floor,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
