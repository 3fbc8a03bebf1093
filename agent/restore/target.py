"""The directories that a restore makes: held by descriptor, never found again by path.

Every component is opened below its parent's descriptor and no link is followed, so that nothing
in the target can lead the restore elsewhere (borg CVE-2026-62268).  A directory made here belongs
to this process, mode 0700, until everything in it is written; one that was there already is
entered only where nobody could have planted it, and is left as it is.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import RestoreRefused
from agent.model.tree import Entry, Kind
from agent.restore import attributes
from agent.restore.attributes import Unset

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_LEVELS = 128  # of a deep tree: more descriptors than that may be refused (RLIMIT_NOFILE)
OUR_PREFIX = b".vitrine-"


def open_target(path: str) -> int:
    """Return a descriptor of the directory at `path`, made if missing; RestoreRefused otherwise."""
    plain = path.rstrip("/") or "/"  # with a slash at the end a link would be followed
    try:
        if not os.path.lexists(plain):
            os.mkdir(plain, 0o700)
        return os.open(plain, DIRECTORY)
    except OSError as error:
        is_link = error.errno in {errno.ELOOP, errno.ENOTDIR}
        why = "it is a link or no directory" if is_link else error.strerror
        raise RestoreRefused(
            f"cannot restore into {plain}: {why}", hint="name a directory that you may write to"
        ) from error


@contextmanager
def closing_target(path: str) -> Iterator[int]:
    """Open a target for the length of a `with`."""
    descriptor = open_target(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Opened(NamedTuple):
    """A directory of the target as who writes files in it needs it, in whatever process."""

    descriptor: int
    made: bool  # by us: it gives nothing of its own, such as an ACL, to what is made in it
    is_plain: bool  # what is made in it belongs to this process, user and group


@dataclass(slots=True, eq=False)
class Directory:
    """One directory of the target while it is being filled."""

    descriptor: int  # -1: closed for now, for the tree is deep
    entry: Entry
    made: bool  # by us, as opposed to found
    identity: tuple[int, int]
    owner: tuple[int, int]  # user and group
    is_plain: bool = False  # as in Opened
    path: bytes = b""  # for reports only
    _pending: int = 0
    _left: bool = False
    _resting: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def root(cls, target: int) -> "Directory":
        """Return the target itself, which keeps its attributes; `target` stays the caller's."""
        entry = Entry(name=b"", kind=Kind.DIRECTORY)
        found = os.fstat(target)
        return cls(os.dup(target), entry, False, _identity(found), (found.st_uid, found.st_gid))

    def opened(self) -> Opened:
        """Return what who writes files in it needs, while it is held."""
        return Opened(self.descriptor, self.made, self.is_plain)

    def enter(self, entry: Entry) -> "Directory":
        """Return the subdirectory for `entry`, made unless it is there; OSError where refused."""
        try:
            os.mkdir(entry.name, 0o700, dir_fd=self.descriptor)
            made = True
        except FileExistsError:
            made = False
        descriptor = os.open(entry.name, DIRECTORY, dir_fd=self.descriptor)
        try:
            found = os.fstat(descriptor)
            self._refuse_planted(found, made=made)
            if made and not self.made:
                attributes.drop_inherited(descriptor, attributes.ACL_ACCESS, attributes.ACL_DEFAULT)
        except OSError:
            os.close(descriptor)
            raise
        path = self.path + b"/" + entry.name if self.path else entry.name
        owner = found.st_uid, found.st_gid
        is_plain = made and owner == (os.geteuid(), os.getegid())
        return Directory(descriptor, entry, made, _identity(found), owner, is_plain, path)

    def hold(self) -> None:
        """Keep the directory open and unfinished for one more file."""
        with self._lock:
            self._pending += 1

    def release(self) -> Unset | None:
        """Undo `hold`; the last one after `leave` finishes the directory."""
        with self._lock:
            self._pending -= 1
            return self._settle()

    def leave(self) -> Unset | None:
        """Say that no more will come: now, or with the last file, it gets its attributes."""
        with self._lock:
            self._left = True
            return self._settle()

    def rest(self) -> None:
        """Close the descriptor once no file needs it; `wake` brings it back."""
        with self._lock:
            self._resting = True
            self._settle()

    def wake(self, child: "Directory") -> None:
        """Open it again as the parent of `child`, which is open; RestoreRefused if it is not."""
        with self._lock:
            self._resting = False
            if self.descriptor >= 0:
                return
            self.descriptor = os.open(b"..", DIRECTORY, dir_fd=child.descriptor)
            if _identity(os.fstat(self.descriptor)) != self.identity:
                raise RestoreRefused("the target was changed while it was restored into")

    def _settle(self) -> Unset | None:
        unset = None
        if self._pending == 0 and self.descriptor >= 0 and (self._left or self._resting):
            try:
                if self._left and self.made:
                    unset = attributes.apply(self.descriptor, self.entry, owner=self.owner)
            finally:
                os.close(self.descriptor)
                self.descriptor = -1
        return unset

    def _refuse_planted(self, found: os.stat_result, *, made: bool) -> None:
        """Raise OSError where somebody else's directory stands in the place of ours.

        Whoever planted a directory may keep it open, and would read in it what is restored.
        """
        own = os.geteuid()
        if found.st_uid != own and (made or found.st_uid not in {self.owner[0], 0}):
            raise OSError(errno.EEXIST, "a directory of somebody else is in the way")
        if found.st_dev != self.identity[0]:
            raise OSError(errno.EXDEV, "another file system is mounted in the way")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
