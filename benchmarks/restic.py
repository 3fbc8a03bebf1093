"""restic as Debian packages it, with its own defaults."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Cost, run, settle_disk, stored_bytes
from benchmarks.tool import Mounted, wait_for_first_byte

_PATIENCE_S = 120.0
_PASSWORD = "benchmark"  # noqa: S105 - of a repository that lives for minutes


class Restic:
    """One repository of one source."""

    name = "restic"

    def __init__(self, directory: Path, source: Path) -> None:
        """Take a directory for repository, cache and mount point."""
        self._directory = directory
        self._source = source
        self._repository = directory / "repository"
        self._environment = {
            "RESTIC_REPOSITORY": str(self._repository),
            "RESTIC_PASSWORD": _PASSWORD,
            "XDG_CACHE_HOME": str(directory / "cache"),
        }

    @staticmethod
    def is_installed() -> bool:
        """Tell whether there is a restic to compare with."""
        return shutil.which("restic") is not None

    @staticmethod
    def version() -> str:
        """Return name and version."""
        said = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True)
        return " ".join(said.stdout.split()[:2])

    def create(self) -> None:
        """Make an empty repository."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        self._restic("init")

    def backup(self) -> Cost:
        """Take a snapshot; compression is `auto`, restic's default."""
        return self._restic("backup", str(self._source))

    def check(self) -> Cost:
        """Check everything, data included."""
        return self._restic("check", "--read-data")

    def restore(self, target: Path) -> Cost:
        """Restore the newest snapshot."""
        return self._restic("restore", "latest", "--target", str(target))

    def stored_bytes(self) -> int:
        """Return the repository's size, without the local cache."""
        return stored_bytes(self._repository)

    @contextmanager
    def mounted(self, sample: Path, *, cold: bool) -> Iterator[Mounted]:
        """Run `restic mount` meanwhile."""
        point = self._directory / "mount"
        point.mkdir(exist_ok=True)
        settle_disk(cold=cold)
        began = time.monotonic()
        process = subprocess.Popen(
            ["restic", "mount", str(point)], env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            source = point / "snapshots" / "latest" / self._source.relative_to("/")
            wait_for_first_byte(source / sample, process)
            yield Mounted(source, time.monotonic() - began, process.pid)
        finally:
            process.send_signal(signal.SIGINT)  # restic unmounts, if nobody is in there
            process.wait(_PATIENCE_S)

    def _restic(self, *arguments: str) -> Cost:
        return run(["restic", "--quiet", *arguments], environment=self._environment)
