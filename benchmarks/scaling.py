"""How each cost grows with the number of files, and with bytes.

    python -m benchmarks.scaling [--files 3000 30000 300000 1000000] [--bytes 1G 5G]

Writes docs/scaling.md unless told otherwise.  Small files show what a file costs, one hospital-like
tree a size what a byte does; peak memory must not follow either.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cases import HospitalCases, Size
from benchmarks.daemon import SmallFileCases
from benchmarks.hospital import size_of
from benchmarks.measure import Cost
from benchmarks.ours import Vitrine
from benchmarks.restic import Restic
from benchmarks.results import MB, OURS, Results
from benchmarks.tool import Tool

_DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling.md"
_SETTLE_S = 5.0
_BYTES_A_FILE = 62_000  # of the hospital-like tree
_SMALL = ("small-first", "small-unchanged", "small-changed")
_LARGE = ("first", "unchanged", "restore", "verify")
_TOOLS = (OURS, Restic.name)

Measure = Callable[[Path, int], Results]
"""Measures one size in a scratch directory."""

_INTRODUCTION = """\
# How costs grow

Written by `{command}` on {date}, one round, warm cache; the programs and trees are those of
docs/benchmarks.md.  Seconds, and the peak memory of the program in MB, ours / restic's.

"""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--files", type=int, nargs="*", default=[3_000, 30_000, 300_000, 1_000_000])
    parser.add_argument("--bytes", type=size_of, nargs="*", default=[10**9, 5 * 10**9])
    parser.add_argument("--scratch", type=Path, help="where there is room; by default TMPDIR")
    parser.add_argument("--output", type=Path, default=_DOCUMENT)
    options = parser.parse_args(arguments)
    lines = _table("files of 128 bytes", _SMALL, options.files, _small, options.scratch)
    lines += _table("bytes of a hospital", _LARGE, options.bytes, _large, options.scratch)
    print(*lines, sep="\n")
    command = " ".join(["python -m benchmarks.scaling", *arguments])
    date = datetime.now(UTC).date().isoformat()
    options.output.write_text(
        _INTRODUCTION.format(command=command, date=date) + "\n".join(lines) + "\n"
    )
    return 0


def _table(
    what: str, cases: Sequence[str], sizes: Sequence[int], measure: Measure, scratch: Path | None
) -> list[str]:
    """Return a table with a row for each size."""
    if not sizes:
        return []
    lines = [f"| {what} | " + " | ".join(cases) + " | peak memory |"]
    lines.append("|---:" * (len(cases) + 2) + "|")
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=scratch) as directory:
            results = measure(Path(directory), size)
        costs = [[results.cost(case, tool, cold=False) for tool in _TOOLS] for case in cases]
        peaks = [max(_peak(cost) for cost in column) for column in zip(*costs, strict=True)]
        shown = [" / ".join(_seconds(cost) for cost in row) for row in costs]
        shown.append(" / ".join(f"{peak:.0f}" for peak in peaks))
        lines.append(f"| {size:,} | " + " | ".join(shown) + " |")
    return [*lines, ""]


def _small(scratch: Path, files: int) -> Results:
    results = Results()
    tree = scratch / "small"
    cases = SmallFileCases(tree, files, _tools(scratch, tree), set(_SMALL), results)
    cases.generate()
    cases.round(0)
    return results


def _large(scratch: Path, size: int) -> Results:
    results = Results()
    tools = _tools(scratch, scratch / "hospital")
    shape = Size(size // _BYTES_A_FILE, size)
    cases = HospitalCases(scratch, shape, tools, set(_LARGE), results)
    cases.generate()
    cases.round(0, cold=False)
    return results


def _tools(scratch: Path, source: Path) -> list[Tool]:
    tools: list[Tool] = [Vitrine(scratch / "v", source, _SETTLE_S)]
    if shutil.which("restic"):
        tools.append(Restic(scratch / "r", source))
    return tools


def _seconds(cost: Cost | None) -> str:
    return f"{cost.seconds:.2f}" if cost else "-"


def _peak(cost: Cost | None) -> float:
    return cost.largest_bytes / MB if cost else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
