"""The table for the terminal, and docs/benchmarks.md."""

import os
import platform
from typing import NamedTuple

from benchmarks.results import CASES, MB, Case, Results

_HEADER = (
    "|  | Vitrine | restic | ratio | at most | processor, s | peak memory, MB |",
    "|---|---:|---:|---:|---:|---:|---:|",
)
_EXPLAINED = """\
Written by `{command}` on {date}; run it to measure your machine.

All programs run in this one run, on the same files, taking turns at going first; a figure is the
median of its rounds.  Nothing is tuned: restic has its own defaults (compression `auto`), Vitrine
those of `vitrine init`.  Both write to a local directory on the same disk.

**The tree is synthetic**: {files:,} files, {size:.2f} GB.  Real pixels of pydicom's test files are
enlarged, blended and noised into CT, MR, CR and XA images and ultrasound loops, so that zstd 3
squeezes a CT slice about three to one; some images keep a real file's compressed pixels
(JPEG, JPEG-LS, JPEG 2000, RLE).  They lie as Orthanc lays them out, beside HL7, FHIR, PDF-like and
text records of 1 to 8 KB and one SQLite database: `benchmarks/hospital.py`.  The next day brings
new studies, merged patients, addenda, deletions, renames and database changes:
`benchmarks/next_day.py`.  Small files: {small:,} of 128 bytes.

**Machine**: {cores} cores, {memory:.0f} GB of memory, {system}; Python {python}, {peers}.  Other
programs kept {load:.1f} processes busy when it began: above 0.5 or so, believe the ratios and the
processor times rather than the seconds.
"""
_NOTES = """\
How to read it:

- *processor* is user and system time of the program and its children, Vitrine's first; for the
  mount that of the processes that serve it (Vitrine's are gate, launcher, worker and agent).
- *peak memory* is the program's resident set at its highest, Vitrine's first.  Where several
  processes serve, each one's own peak is added up, which counts shared pages more than once; the
  largest alone stands in brackets.
- *restore* is `vitrine recover`, with the passphrase alone, beside `restic restore`.  Most of its
  memory is what deriving a key from the passphrase takes (Argon2id).
- *verify* is `vitrine verify --read-data` beside `restic check --read-data`.  The first compares
  every object with its name and opens none, for lack of the key; the second also decrypts.
- *unlock to first byte* is `vitrine unlock` under running services, with password, token, policy
  and audit, beside the start of `restic mount`.
- *3 changed*: from the end of the settle time ({settle:g} s) until the snapshot is in the
  repository, beside a run of restic over all files.
- Reading through the mount is `tar` of files in the order of their paths, into a pipe.
- Every restore is counted against its source, every read through a mount to its last byte, and
  the daemon's snapshot is followed by a full scan, which must find that nothing was missed.
"""


class Setting(NamedTuple):
    """What was measured on and how."""

    command: str
    date: str
    files: int
    bytes: int
    small_files: int
    settle_seconds: float
    peers: str
    load: float  # the load average of the minute before


def table(results: Results, *, cold: bool) -> list[str]:
    """Return one table as Markdown lines; empty where nothing was measured."""
    rows = [row for case in CASES if (row := _row(case, results, cold=cold))]
    return [*_HEADER, *rows] if rows else []


def document(results: Results, setting: Setting) -> str:
    """Return docs/benchmarks.md."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    explained = _EXPLAINED.format(
        command=setting.command,
        date=setting.date,
        files=setting.files,
        size=setting.bytes / 1e9,
        small=setting.small_files,
        cores=os.cpu_count(),
        memory=memory,
        system=platform.system(),
        python=platform.python_version(),
        peers=setting.peers,
        load=setting.load,
    )
    parts = ["# Benchmarks", "", explained]
    for cold, title in ((False, "Warm cache"), (True, "Cold cache")):
        lines = table(results, cold=cold)
        if lines:
            rounds = max(results.samples(case.key, cold=cold) for case in CASES)
            median = f"median of {rounds}" if rounds > 1 else "one round"
            parts += [f"## {title}: {median}", "", *lines, ""]
    parts.append(_NOTES.format(settle=setting.settle_seconds))
    return "\n".join(parts)


def _row(case: Case, results: Results, *, cold: bool) -> str:
    figures = [results.figure(case.key, tool, cold=cold) for tool in ("vitrine", "restic")]
    if figures == [None, None]:
        return ""
    ours, theirs = figures
    title = f"{case.title}, {case.unit}"
    limit = _limit(case)
    costs = [results.cost(case.key, tool, cold=cold) for tool in ("vitrine", "restic")]
    cpu = " / ".join(f"{cost.cpu_seconds:.2f}" if cost else "-" for cost in costs)
    memory = " / ".join(
        _memory(cost.peak_bytes, cost.largest_bytes) if cost else "-" for cost in costs
    )
    shown = [_shown(figure, case.unit) for figure in figures]
    ratio_shown = _ratio_shown(ours, theirs)
    return f"| {title} | {shown[0]} | {shown[1]} | {ratio_shown} | {limit} | {cpu} | {memory} |"


def _ratio_shown(ours: float | None, theirs: float | None) -> str:
    if ours is None or not theirs:
        return "-"
    ratio = ours / theirs
    return "**< 0.01**" if ratio < 0.005 else f"**{ratio:.2f}**"


def _shown(figure: float | None, unit: str) -> str:
    if figure is None:
        return "-"
    return f"{figure:.2f}" if unit == "s" else f"{figure:.0f}"


def _limit(case: Case) -> str:
    if case.ratio_limit is not None:
        return f"{case.ratio_limit:g}"
    return f"{case.limit:g} {case.unit}" if case.limit is not None else ""


def _memory(peak: int, largest: int) -> str:
    shown = f"{peak / MB:.0f}"
    return shown if peak == largest else f"{shown} ({largest / MB:.0f})"
