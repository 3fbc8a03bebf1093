"""Small file systems to fill, and how a command should fail."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.cli.people import Said

NOTHING_MORE = (1 << 20, 4096, 1)  # bytes at a time


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """Mount an empty file system of that size at a directory."""
    at.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={size},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill_up(directory: Path) -> Path:
    """Fill the file system to the last byte; return the file that does it."""
    path = directory / "ballast"
    with path.open("wb", buffering=0) as file:
        for step in NOTHING_MORE:
            while _written(file.fileno(), step):
                pass
    return path


def _written(file: int, count: int) -> bool:
    try:
        return os.write(file, os.urandom(count)) > 0
    except OSError:
        return False


def assert_told(said: Said, status: int, *words: str, hint: str = "") -> None:
    """Assert that a command failed as documented: what, to which thing, and what to do next."""
    assert said.status == status, said
    lines = said.errors.splitlines()
    assert lines[0].startswith("vitrine: "), said
    assert "internal error" not in said.errors, said
    assert "Traceback" not in said.errors, said
    for word in words:
        assert word in lines[0], said
    assert len(lines) > 1, f"no next step: {said}"
    assert lines[1].startswith("         "), said
    assert hint in lines[1], said
