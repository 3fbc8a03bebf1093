"""`python -m tests.fuzz [TARGET …]`: fuzz them, or all, and say what came of it."""

import argparse
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.registry import TARGETS
from tests.fuzz.running import fuzz


def main() -> int:
    """Run; the exit status is 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run; 0 for a fresh one")
    parser.add_argument("--corpus", type=Path, help="a directory that keeps what was collected")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    seed = chosen.seed or secrets.randbelow(2**31 - 1) + 1

    def run(name: str) -> bool:
        corpus = chosen.corpus / name if chosen.corpus else None
        result = fuzz(name, seconds=chosen.seconds, seed=seed, corpus=corpus)
        print(result, flush=True)  # noqa: T201 - this is its output
        return result.is_clean

    with ThreadPoolExecutor(chosen.jobs) as pool:
        return 0 if all([*pool.map(run, chosen.targets or TARGETS)]) else 1


if __name__ == "__main__":
    sys.exit(main())
