"""borg as Debian packages it, at the compression level that restic has by default."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Cost, run, settle_disk, stored_bytes
from benchmarks.tool import Mounted, wait_for_first_byte

_PATIENCE_S = 120.0
_COMPRESSION = "zstd,3"  # borg's own default, lz4, stores half as much again
_PASSPHRASE = "benchmark"  # noqa: S105 - of a repository that lives for minutes


class Borg:
    """One repository of one source."""

    name = "borg"

    def __init__(self, directory: Path, source: Path) -> None:
        """Take a directory for repository, cache and mount point."""
        self._directory = directory
        self._source = source
        self._repository = directory / "repository"
        self._archives = 0
        self._environment = {
            "BORG_REPO": str(self._repository),
            "BORG_PASSPHRASE": _PASSPHRASE,
            "BORG_BASE_DIR": str(directory / "base"),
        }

    @staticmethod
    def is_installed() -> bool:
        """Tell whether there is a borg to compare with."""
        return shutil.which("borg") is not None

    @staticmethod
    def version() -> str:
        """Return name and version."""
        said = subprocess.run(["borg", "--version"], check=True, capture_output=True, text=True)
        return said.stdout.strip()

    def create(self) -> None:
        """Make an empty repository."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        self._archives = 0
        self._borg("init", "--encryption", "repokey-blake2")

    def backup(self) -> Cost:
        """Take a snapshot, which borg calls an archive."""
        self._archives += 1
        archive = f"::{self._archives}"
        return self._borg("create", "--compression", _COMPRESSION, archive, str(self._source))

    def check(self) -> Cost:
        """Check everything, data included."""
        return self._borg("check", "--verify-data")

    def restore(self, target: Path) -> Cost:
        """Restore the newest archive; borg extracts to where it stands."""
        target.mkdir()
        return run(
            ["borg", "extract", f"::{self._archives}"], cwd=target, environment=self._environment
        )

    def stored_bytes(self) -> int:
        """Return the repository's size, without the local cache."""
        return stored_bytes(self._repository)

    @contextmanager
    def mounted(self, sample: Path, *, cold: bool) -> Iterator[Mounted]:
        """Run `borg mount` meanwhile."""
        point = self._directory / "mount"
        point.mkdir(exist_ok=True)
        settle_disk(cold=cold)
        began = time.monotonic()
        process = subprocess.Popen(
            ["borg", "mount", "--foreground", f"::{self._archives}", str(point)],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            source = point / self._source.relative_to("/")
            wait_for_first_byte(source / sample, process)
            yield Mounted(source, time.monotonic() - began, process.pid)
        finally:
            subprocess.run(["umount", "--lazy", str(point)], check=False)  # ends borg as well
            process.terminate()
            process.wait(_PATIENCE_S)

    def _borg(self, *arguments: str) -> Cost:
        return run(["borg", *arguments], environment=self._environment)
