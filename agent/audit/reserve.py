"""Space set aside, so that a full disk cannot silence the audit."""

import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 1024 * 1024  # some thousand records: every session's end, and why


class Reserve:
    """A file of allocated, empty blocks.  Not thread-safe: the chain's lock is around it."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        """Take where it lies and how big it is, above zero; nothing is written yet."""
        self._path = path
        self._size = size

    def take(self) -> bool:
        """Allocate every block, durably; return False, keeping nothing, where there is no space."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, self._size)
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, 0)
            return False
        finally:
            os.close(fd)
        return True

    def release(self) -> None:
        """Give the blocks back to the file system; raise OSError."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
