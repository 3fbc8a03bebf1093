"""Which files failed, told to the target's owner alone: names never leave the target.

A file in the target, mode 0600 and the target's owner's, one line for each: path, tab, reason.
"""

import os
import secrets
import threading

from agent.restore.target import OUR_PREFIX

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), 127)} | {92: "\\\\"}


class FailureReport:
    """Made with the first failure.  Thread-safe."""

    def __init__(self, target: int) -> None:
        """Take the target's descriptor."""
        self._target = target
        self._lock = threading.Lock()
        self._descriptor = -1
        self.name = ""
        self.is_whole = True

    def add(self, path: bytes, reason: str) -> None:
        """Write a line; a report that cannot be written is not whole, and the restore goes on."""
        text = path.decode(errors="backslashreplace").translate(_ESCAPES)
        with self._lock:
            try:
                os.write(self._open(), f"{text}\t{reason}\n".encode())
            except OSError:
                self.is_whole = False

    def close(self) -> None:
        """Hand it to the target's owner."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0:
            name = (OUR_PREFIX + b"failed-" + secrets.token_hex(4).encode()).decode()
            self._descriptor = os.open(name, _FLAGS, 0o600, dir_fd=self._target)
            self.name = name
            owner = os.fstat(self._target)
            if os.geteuid() == 0:
                os.fchown(self._descriptor, owner.st_uid, owner.st_gid)
        return self._descriptor
