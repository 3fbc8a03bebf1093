"""What a restore has come to so far."""

from dataclasses import dataclass

import msgspec

from agent.errors import RestoreIncomplete
from agent.restore.attributes import Unset


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a restore came to.  `unset_…` count what this process was not permitted to set."""

    files: int  # everything but directories
    bytes: int
    failed: int
    unset_owners: int = 0
    unset_xattrs: int = 0
    report: str = ""  # the file in the target that names what failed

    def check(self) -> None:
        """Raise RestoreIncomplete where anything failed: what is there is whole, but not all."""
        if self.failed:
            where = f"{self.report} in the target names them" if self.report else ""
            raise RestoreIncomplete(
                f"{self.failed} files or directories could not be restored", hint=where
            )


class Done(msgspec.Struct, tag=True, omit_defaults=True):
    """What a batch came to, as its writer counted."""

    files: int = 0
    size: int = 0
    unset_owners: int = 0
    unset_xattrs: int = 0
    failed: list[tuple[int, str]] = []  # number in the batch, and why

    def restored(self, size: int, unset: Unset) -> None:
        """Count a file that is there."""
        self.files += 1
        self.size += size
        self.unset_owners += unset.owners
        self.unset_xattrs += unset.xattrs


class Tally:
    """Counts.  For the walker alone, which hears of each batch once it is done."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.files = 0
        self.bytes = 0
        self.failed = 0
        self.unset_owners = 0
        self.unset_xattrs = 0

    def add(self, done: Done) -> None:
        """Count a batch; what failed in it is counted by who reports it."""
        self.files += done.files
        self.bytes += done.size
        self.unset_owners += done.unset_owners
        self.unset_xattrs += done.unset_xattrs

    def dressed(self, unset: Unset) -> None:
        """Count what could not be set on a directory."""
        self.unset_owners += unset.owners
        self.unset_xattrs += unset.xattrs

    def lost(self) -> None:
        """Count something that could not be restored."""
        self.failed += 1

    def outcome(self, report: str) -> Outcome:
        """Return the counts."""
        return Outcome(
            self.files, self.bytes, self.failed, self.unset_owners, self.unset_xattrs, report
        )
