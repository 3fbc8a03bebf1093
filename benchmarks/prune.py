"""What a day's prune costs: seconds and peak memory, of a repository of so many chunks.

    python -m benchmarks.prune [--files 150000] [--rounds 3]

A snapshot of small files, each a chunk; every second file deleted; another snapshot; the first
removed.  So half of every pack is waste, and the first day rewrites them all.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.crypto.signing import SigningKey
from agent.maintained import Maintenance, opened
from agent.repository import layout
from agent.repository.removals import RemovalRecord, Removed, encode_record, read_removals
from benchmarks.measure import Cost
from benchmarks.ours import Vitrine
from benchmarks.small_files import generate

_VAULT = "radiology"
_DIRECTORIES = 300


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prune", description=__doc__)
    parser.add_argument("--files", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="where there is room; by default TMPDIR")
    options = parser.parse_args(arguments)
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            dry, first, second = _measure(Path(scratch), options.files, number)
        print(f"dry run: {_told(dry)}; rewriting: {_told(first)}; the next day: {_told(second)}")
    return 0


def _measure(scratch: Path, files: int, seed: int) -> tuple[Cost, Cost, Cost]:
    source = scratch / "source"
    generate(source, files, _DIRECTORIES, seed)
    ours = Vitrine(scratch / "ours", source, settle_seconds=5.0)
    ours.create()
    ours.backup()
    for path in sorted(source.rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    ours.backup()
    with opened(ours.maintenance_file) as work:
        _remove_first(work)
    return ours.prune("--dry-run"), ours.prune(), ours.prune()


def _remove_first(work: Maintenance) -> None:
    """Remove the first snapshot, on record, as retention would a year later."""
    keys = work.vault(_VAULT)
    info = work.snapshots(keys)[0]
    snapshot, known = info.snapshot, read_removals(work.store, keys)
    gone = Removed(snapshot.host, snapshot.sequence, info.id, snapshot.previous)
    record = RemovalRecord(keys.vault, len(known.ids) + 1, known.tip, 0, (gone,))
    authority = SigningKey(work.secrets(keys).authority)
    data = encode_record(record, keys.index(), authority)
    work.store.put(layout.removal(keys.vault, record.number), [data])
    work.store.delete(layout.snapshot(keys.vault, snapshot.host, snapshot.sequence))


def _told(cost: Cost) -> str:
    return f"{cost.seconds:.1f} s, {cost.peak_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
