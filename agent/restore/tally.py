"""What a restore has come to so far: counted by every thread, told to whoever waits."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import RestoreIncomplete, SessionExpired
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


class Tally:
    """Counts.  Thread-safe."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        """Take what tells whether the restore must end now."""
        self._stopped = stopped
        self._lock = threading.Lock()
        self.fatal: BaseException | None = None
        self.moved_bytes = 0
        self.files = 0
        self.bytes = 0
        self.failed = 0
        self.unset_owners = 0
        self.unset_xattrs = 0

    def moved(self, size: int) -> None:
        """Count bytes on their way; raise SessionExpired once the restore must end."""
        self.check()
        with self._lock:
            self.moved_bytes += size

    def check(self) -> None:
        """Raise SessionExpired once the restore must end."""
        if self.fatal is not None or self._stopped():
            raise SessionExpired("the session ended before the restore did")

    def end(self, error: BaseException) -> None:
        """Have every thread end; the first error is the one that tells why."""
        with self._lock:
            self.fatal = self.fatal or error

    def restored(self, size: int, unset: Unset) -> None:
        """Count a file that is there."""
        with self._lock:
            self.files += 1
            self.bytes += size
        self.dressed(unset)

    def dressed(self, unset: Unset) -> None:
        """Count what could not be set."""
        if unset.owners or unset.xattrs:
            with self._lock:
                self.unset_owners += unset.owners
                self.unset_xattrs += unset.xattrs

    def lost(self) -> None:
        """Count something that could not be restored."""
        with self._lock:
            self.failed += 1

    def outcome(self, report: str) -> Outcome:
        """Return the counts."""
        return Outcome(
            self.files, self.bytes, self.failed, self.unset_owners, self.unset_xattrs, report
        )
