"""borg as Debian packages it, at the compression level that restic has by default."""

from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.measure import Cost
from benchmarks.peer import Peer, repository
from benchmarks.tool import Mounted

_COMPRESSION = "zstd,3"  # borg's own default, lz4, stores half as much again
_PASSPHRASE = "benchmark"  # noqa: S105 - of a repository that lives for minutes


class Borg(Peer):
    """One repository of one source."""

    name = "borg"
    said_version = ("--version",)

    def __init__(self, directory: Path, source: Path) -> None:
        """Take a directory for repository, cache and mount point."""
        environment = {
            "BORG_REPO": str(repository(directory)),
            "BORG_PASSPHRASE": _PASSPHRASE,
            "BORG_BASE_DIR": str(directory / "base"),
        }
        super().__init__(directory, source, environment)
        self._archives = 0

    def create(self) -> None:
        """Make an empty repository."""
        self.empty()
        self._archives = 0
        self.run("init", "--encryption", "repokey-blake2")

    def backup(self) -> Cost:
        """Take a snapshot, which borg calls an archive."""
        self._archives += 1
        archive = f"::{self._archives}"
        return self.run("create", "--compression", _COMPRESSION, archive, str(self._source))

    def check(self) -> Cost:
        """Check everything, data included."""
        return self.run("check", "--verify-data")

    def restore(self, target: Path) -> Cost:
        """Restore the newest archive; borg extracts to where it stands."""
        target.mkdir()
        return self.run("extract", f"::{self._archives}", cwd=target)

    def mounted(self, sample: Path, *, cold: bool) -> AbstractContextManager[Mounted]:
        """Run `borg mount` meanwhile."""
        command = ("mount", "--foreground", f"::{self._archives}")
        return self.mounting(command, Path(), sample, cold=cold)
