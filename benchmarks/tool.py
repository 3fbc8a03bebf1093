"""What every program that is measured can do: a contract, so that all are treated alike."""

import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.measure import Cost

_PATIENCE_S = 120.0
_POLL_S = 0.005


class Mounted(NamedTuple):
    """A newest snapshot that can be read as files."""

    source: Path  # where the source shows
    opened_seconds: float  # from the command to the first bytes of a file
    pid: int  # the process that serves it, or that all who serve it descend from


class Tool(Protocol):
    """A backup program with one repository of one source, in a directory of its own."""

    name: str

    def create(self) -> None:
        """Make an empty repository, in place of the one there was."""

    def backup(self) -> Cost:
        """Take a snapshot; the program looks at the whole source."""

    def check(self) -> Cost:
        """Verify all data that are stored."""

    def restore(self, target: Path) -> Cost:
        """Restore the newest snapshot below `target`, which does not exist."""

    def mounted(self, sample: Path, *, cold: bool) -> AbstractContextManager[Mounted]:
        """Mount the newest snapshot; `sample`, relative to the source, is the file read first."""

    def stored_bytes(self) -> int:
        """Return the repository's size."""


def wait_for_first_byte(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Return once `process` has mounted so far that `path` can be read."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with path.open("rb") as file:
                if file.read(1):
                    return
        except FileNotFoundError:
            time.sleep(_POLL_S)
    raise TimeoutError("the program that is measured did not mount")


def source_below(target: Path, source: Path) -> Path:
    """Return where a restored source lies: each program has its own idea of how deep."""
    for parts in range(1, len(source.parts)):
        path = target.joinpath(*source.parts[parts:])
        if path.is_dir():
            return path
    raise FileNotFoundError(f"no {source.name} was restored")
