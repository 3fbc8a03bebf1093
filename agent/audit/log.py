"""A file that grows by whole, synced lines, or stays as it was."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.errors import AuditBroken, AuditUnavailable

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoSpace(Exception):
    """The disk is full; the file is as it was."""


class SyncedLog:
    """One writer's end of the file.  Not thread-safe: the chain's lock is around it."""

    def __init__(self, path: Path) -> None:
        """Open an existing file for this process alone; raise AuditBroken where there is none."""
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise AuditBroken(
                "the audit is gone: there is no chain file",
                hint="bring it back from a copy; a new one would hide that the old one is lost",
            ) from None
        except OSError as error:
            raise unavailable(error) from error
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.fd)
            raise AuditUnavailable(
                "another process keeps this audit", hint="stop the service that runs already"
            ) from error
        self.size = os.fstat(self.fd).st_size

    def cut(self, size: int) -> None:
        """Shorten the file to `size` bytes, durably; raise OSError."""
        if size != self.size:
            os.ftruncate(self.fd, size)
            os.fsync(self.fd)
            self.size = size

    def append(self, data: bytes) -> None:
        """Write and sync `data`; raise NoSpace, or OSError after which the file is not trusted.

        After a failed sync nobody knows what is on the disk (fsyncgate, 2018): only a full disk,
        where the end can be taken back, is an error to go on after.
        """
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self.fd, data[written:], self.size + written)
            os.fdatasync(self.fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self.fd, self.size)
                os.fsync(self.fd)
                if error.errno in _NO_SPACE:
                    raise NoSpace from error
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file, which ends the lock."""
        os.close(self.fd)


def unavailable(error: OSError) -> AuditUnavailable:
    """Return the error that a failing disk means to who wanted something recorded."""
    return AuditUnavailable(
        f"the audit cannot be written: {error.strerror or 'the disk failed'}",
        hint="mend the disk where the audit lies, and restart the service",
    )
