"""The table for the terminal, and docs/benchmarks.md."""

import os
import platform
from typing import NamedTuple

from benchmarks.measure import Cost
from benchmarks.results import CASES, MB, OURS, PEERS, Case, Limit, Results

_HEADER = (
    "|  | Vitrine | restic | borg | ratio | at most | processor, s | peak memory, MB |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)
_EXPLAINED = """\
Written by `{command}` on {date}; run it to measure your machine.

All programs run in this one run, on the same files, taking turns at going first; a figure is the
median of its rounds.  *Ratio* is ours over the better of the two peers.  Nothing is tuned: restic
has its own defaults (compression `auto`), borg `repokey-blake2` and `zstd,3`, Vitrine those of
`vitrine init`.  All write to a local directory on the same disk, and all are compiled beforehand,
as their packages install them.

**The tree is synthetic**: {files:,} files, {size:.2f} GB.  Real pixels of pydicom's test files are
enlarged, blended and noised into CT, MR, CR and XA images and ultrasound loops, so that zstd 3
squeezes a CT slice about three to one; some images keep a real file's compressed pixels
(JPEG, JPEG-LS, JPEG 2000, RLE).  Noise sets a floor to what any lossless program can store of it:
{limit}  They lie as Orthanc lays them out, beside HL7, FHIR, PDF-like and
text records of 1 to 8 KB and one SQLite database: `benchmarks/hospital.py`.  The next day brings
new studies, merged patients, addenda, deletions, renames and database changes:
`benchmarks/next_day.py`.  Small files: {small:,} of 128 bytes.

**Machine**: {cores} cores, {memory:.0f} GB of memory, {system}; Python {python}, {peers}.  Other
programs kept {load:.1f} processes busy when it began: above 0.5 or so, believe the ratios and the
processor times rather than the seconds.
"""
_NOTES = """\
How to read it:

- *processor* is user and system time of the program and its children, in the columns' order; for
  the mount that of the processes that serve it (Vitrine's are gate, launcher, worker and agent).
- *peak memory* is the program's resident set at its highest, in the same order.  Where several
  processes serve, each one's own peak is added up, which counts shared pages more than once; the
  largest alone stands in brackets.
- *restore* is `vitrine recover`, with the passphrase alone, beside `restic restore` and
  `borg extract`.  Part of its memory is what deriving a key from the passphrase takes (Argon2id).
- *verify* is `vitrine verify --read-data` beside `restic check --read-data` and `borg check
  --verify-data`.  The first compares every object with its name and opens none, for lack of the
  key; the others also decrypt.
- *unlock to first byte* is `vitrine unlock` under running services, with password, token, policy
  and audit, beside the start of `restic mount` and `borg mount`.
- *3 changed*: from the end of the settle time ({settle:g} s) until the snapshot is in the
  repository, beside a run of the others over all files.
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
    limit: Limit | None  # None: not reckoned
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
        limit=_floor(setting.limit),
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


def _floor(limit: Limit | None) -> str:
    if limit is None:
        return "not reckoned in this run (`benchmarks/entropy.py`)."
    return (
        f"**{limit.total / MB:.0f} MB** on the first day, of which {limit.noise / MB:.0f} MB are\n"
        f"the noise of uncompressed images, {limit.compressed / MB:.0f} MB images that came "
        f"compressed,\nand {limit.text / MB:.0f} MB records and database at Zstandard's level 19\n"
        "(`benchmarks/entropy.py`)."
    )


def _row(case: Case, results: Results, *, cold: bool) -> str:
    tools = (OURS, *PEERS)
    figures = [results.figure(case.key, tool, cold=cold) for tool in tools]
    if figures == [None] * len(tools):
        return ""
    costs = [results.cost(case.key, tool, cold=cold) for tool in tools]
    cells = [
        f"{case.title}, {case.unit}",
        *(_shown(figure, case.unit) for figure in figures),
        _ratio_shown(results.ratio(case.key, cold=cold)),
        _limit(case),
        " / ".join(f"{cost.cpu_seconds:.2f}" if cost else "-" for cost in costs),
        " / ".join(_memory(cost) if cost else "-" for cost in costs),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio_shown(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return "**< 0.01**" if ratio < 0.005 else f"**{ratio:.2f}**"


def _shown(figure: float | None, unit: str) -> str:
    if figure is None:
        return "-"
    return f"{figure:.2f}" if unit == "s" else f"{figure:.0f}"


def _limit(case: Case) -> str:
    if case.ratio_limit is not None:
        return f"{case.ratio_limit:g}"
    return f"{case.limit:g} {case.unit}" if case.limit is not None else ""


def _memory(cost: Cost) -> str:
    shown = f"{cost.peak_bytes / MB:.0f}"
    largest = f"{cost.largest_bytes / MB:.0f}"
    return shown if shown == largest else f"{shown} ({largest})"
