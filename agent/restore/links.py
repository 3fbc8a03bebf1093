"""Hard links put back without a table of them in memory."""

import errno
import os
import secrets
import threading
from contextlib import suppress
from itertools import islice

from agent.model.tree import Entry
from agent.restore.target import DIRECTORY, OUR_PREFIX, Opened

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}  # link(2): exFAT; too many names
_SOME = 1000


class Anchors:
    """One hidden name for each hard-linked file, from which its further names are made.

    The table of links thus lies in the target's file system and not in memory, so that all
    processes of a restore share it, and no name is looked up by path.
    """

    def __init__(self, target: int) -> None:
        """Take the target; nothing is made before the first hard link."""
        self._target = target
        self._name = OUR_PREFIX + secrets.token_hex(8).encode()
        self._descriptor = -1
        self._lock = threading.Lock()

    def link(self, source: int, entry: Entry, directory: Opened) -> bool:
        """Make `entry` another name of the file that has an anchor; False where none has."""
        try:
            os.link(
                self._anchor(source, entry),
                entry.name,
                src_dir_fd=self._open(),
                dst_dir_fd=directory.descriptor,
                follow_symlinks=False,
            )
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False  # a copy, then: the bytes matter more than the link
        return True

    def anchor(self, source: int, entry: Entry, directory: Opened, name: bytes) -> bool:
        """Give the file `name` an anchor; False where another name of it was quicker."""
        try:
            os.link(
                name,
                self._anchor(source, entry),
                src_dir_fd=directory.descriptor,
                dst_dir_fd=self._open(),
                follow_symlinks=False,
            )
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        return True

    def remove(self) -> None:
        """Remove all anchors, once nobody makes any."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._name, DIRECTORY, dir_fd=self._target)
            except FileNotFoundError:
                return
        while names := self._some():
            for name in names:
                os.unlink(name, dir_fd=self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        os.rmdir(self._name, dir_fd=self._target)

    def _some(self) -> list[str]:
        with os.scandir(self._descriptor) as found:
            return [one.name for one in islice(found, _SOME)]

    def _open(self) -> int:
        with self._lock:
            if self._descriptor < 0:
                with suppress(FileExistsError):  # another process was quicker
                    os.mkdir(self._name, 0o700, dir_fd=self._target)
                self._descriptor = os.open(self._name, DIRECTORY, dir_fd=self._target)
            return self._descriptor

    @staticmethod
    def _anchor(source: int, entry: Entry) -> bytes:
        # kind and content too: two names of one inode that were read at different moments may
        # have different content, and the right bytes matter more than the link
        kind, digest = int(entry.kind), entry.digest[:16].hex()
        return f"{source}-{entry.inode}-{kind}-{digest}".encode()
