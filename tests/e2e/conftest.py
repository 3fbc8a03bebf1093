"""A place for a whole installation: short, reachable by every user, and gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hospital import unmount_all


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory whose path is short enough for Unix sockets below it."""
    directory = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    directory.chmod(0o755)  # people of all kinds reach their mounts through it
    try:
        yield directory
    finally:
        unmount_all(directory)
        shutil.rmtree(directory)
