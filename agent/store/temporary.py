"""Files that are being written: locked while their writer lives, swept when it is dead."""

import fcntl
import os
import weakref
from contextlib import suppress

_PREFIX = ".tmp-"  # the dot keeps it out of every listing: no name starts with one
_SWEEP = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # NFS locks only what is open for writing
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FILE_MODE = 0o640

Owner = tuple[int, int] | None
"""User and group to give to what is made, if they are not ours."""


class TemporaryFile:
    """A new file in the directory `root`, open and locked; its name goes with `remove`."""

    def __init__(self, root: int, owner: Owner) -> None:
        """Make it; raise OSError where that cannot be done."""
        self.name, self.file = _new(root, owner)
        self._removed = weakref.finalize(self, _remove, root, self.name, self.file)

    def remove(self) -> None:
        """Close it and remove this name of it; twice is once, and being forgotten is enough."""
        self._removed()


def give_away(name: str, directory: int, owner: Owner) -> None:
    """Have what we made in another's repository belong to its owner, if we may."""
    if owner is not None:
        uid, gid = owner
        with suppress(PermissionError):  # without CAP_CHOWN: then the group has to do
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def sweep(root: int) -> None:
    """Remove the temporary files that no living writer holds, where we may."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    for name in names:
        with suppress(OSError):  # held, gone, another user's, or all of it is read-only
            file = os.open(name, _SWEEP, dir_fd=root)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=root)
            finally:
                os.close(file)


def _new(root: int, owner: Owner) -> tuple[str, int]:
    while True:
        name = _PREFIX + os.urandom(16).hex()
        file = os.open(name, _CREATE, _FILE_MODE, dir_fd=root)
        give_away(name, root, owner)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a sweep was faster, and removes it
            os.close(file)
            continue
        except OSError:  # no locks on this file system, so no sweep gets one either
            return name, file
        if os.fstat(file).st_nlink:
            return name, file
        os.close(file)  # a sweep has been here


def _remove(root: int, name: str, file: int) -> None:
    with suppress(OSError):  # what happened to the object matters more; a sweep removes it
        os.unlink(name, dir_fd=root)
    os.close(file)
