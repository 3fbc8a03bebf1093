"""A scratch directory in memory, and runs that put many small objects where real ones put few."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.backup import pipeline


@pytest.fixture
def ram() -> Iterator[Path]:
    """Return a directory on a tmpfs, if there is one: fsync is what makes many rounds slow.

    What fsync is for is the matter of test_power_cut.py, whose disk is simulated.
    """
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    where = shared if shared.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="vitrine-test-", dir=where) as scratch:
        yield Path(scratch)


@pytest.fixture
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run durable after every batch, and so many times as many points to fail at."""
    monkeypatch.setattr(pipeline, "CHECKPOINT_SECONDS", 0.0)
