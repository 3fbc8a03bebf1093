"""What the programs we are measured beside have in common: a repository, settings, a mount."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Cost, run, settle_disk, stored_bytes
from benchmarks.tool import Mounted, wait_for_first_byte

_PATIENCE_S = 120.0


class Peer:
    """One repository of one source, kept by another program."""

    name: str  # of the program, as it is found on PATH
    said_version: tuple[str, ...]  # the arguments that have it say its version

    def __init__(self, directory: Path, source: Path, environment: Mapping[str, str]) -> None:
        """Take a directory for repository, cache and mount point, and the program's settings."""
        self._directory = directory
        self._source = source
        self._environment = environment

    @classmethod
    def is_installed(cls) -> bool:
        """Tell whether there is one to compare with."""
        return shutil.which(cls.name) is not None

    @classmethod
    def version(cls) -> str:
        """Return name and version."""
        command = [cls.name, *cls.said_version]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        return " ".join(said.stdout.split()[:2])

    def stored_bytes(self) -> int:
        """Return the repository's size, without the local cache."""
        return stored_bytes(repository(self._directory))

    def empty(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()

    def run(self, *arguments: str, cwd: Path | None = None) -> Cost:
        """Run the program to its end."""
        return run([self.name, *arguments], cwd=cwd, environment=self._environment)

    @contextmanager
    def mounting(
        self, arguments: Sequence[str], below: Path, sample: Path, *, cold: bool
    ) -> Iterator[Mounted]:
        """Run `arguments` and the mount point meanwhile; the source shows at `below` in it."""
        point = self._directory / "mount"
        point.mkdir(exist_ok=True)
        settle_disk(cold=cold)
        began = time.monotonic()
        process = subprocess.Popen(
            [self.name, *arguments, str(point)], env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            source = point / below / self._source.relative_to("/")
            wait_for_first_byte(source / sample, process)
            yield Mounted(source, time.monotonic() - began, process.pid)
        finally:
            subprocess.run(["umount", "--lazy", str(point)], check=False)  # ends it as well
            process.terminate()
            process.wait(_PATIENCE_S)


def repository(directory: Path) -> Path:
    """Return where a peer keeps its repository."""
    return directory / "repository"
