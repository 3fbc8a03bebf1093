"""restic as Debian packages it, with its own defaults."""

from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.measure import Cost
from benchmarks.peer import Peer, repository
from benchmarks.tool import Mounted

_PASSWORD = "benchmark"  # noqa: S105 - of a repository that lives for minutes


class Restic(Peer):
    """One repository of one source."""

    name = "restic"
    said_version = ("version",)

    def __init__(self, directory: Path, source: Path) -> None:
        """Take a directory for repository, cache and mount point."""
        environment = {
            "RESTIC_REPOSITORY": str(repository(directory)),
            "RESTIC_PASSWORD": _PASSWORD,
            "XDG_CACHE_HOME": str(directory / "cache"),
        }
        super().__init__(directory, source, environment)

    def create(self) -> None:
        """Make an empty repository."""
        self.empty()
        self.run("--quiet", "init")

    def backup(self) -> Cost:
        """Take a snapshot; compression is `auto`, restic's default."""
        return self.run("--quiet", "backup", str(self._source))

    def check(self) -> Cost:
        """Check everything, data included."""
        return self.run("--quiet", "check", "--read-data")

    def restore(self, target: Path) -> Cost:
        """Restore the newest snapshot."""
        return self.run("--quiet", "restore", "latest", "--target", str(target))

    def mounted(self, sample: Path, *, cold: bool) -> AbstractContextManager[Mounted]:
        """Run `restic mount` meanwhile."""
        return self.mounting(("mount",), Path("snapshots", "latest"), sample, cold=cold)
