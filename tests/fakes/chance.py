"""Chance that can be repeated, and how long to go on: both from the environment.

VITRINE_SEED is the one seed of every random test (a fresh one where it is not set; it is printed,
and pytest shows it when a test fails).  VITRINE_ROUNDS multiplies the rounds of every test that is
as good as it is long: 1 for CI, `make torture` sets more.
"""

import os
import random


def chance(purpose: str) -> random.Random:
    """Return randomness for `purpose`, which the seed that is printed repeats."""
    seed = os.environ.get("VITRINE_SEED") or str(random.randrange(2**32))
    print(f"repeat with VITRINE_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(f"{seed} {purpose}")


def rounds(in_ci: int) -> int:
    """Return how many rounds to go, where CI goes `in_ci`."""
    return max(1, round(in_ci * float(os.environ.get("VITRINE_ROUNDS") or 1)))
