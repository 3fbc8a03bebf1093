"""One entry into one directory: a file, a link, a pipe, a socket or a device, with all it had.

Nothing that exists is ever replaced.  A file appears under its name whole, with its attributes, or
not at all; what was begun and did not succeed is removed.
"""

import errno
import os
import secrets
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path

from agent.errors import ObjectDamaged
from agent.model.tree import Entry, Flaw, Kind
from agent.restore import attributes, rename
from agent.restore.attributes import Unset
from agent.restore.content import ContentWriter
from agent.restore.links import Anchors
from agent.restore.pieces import Window
from agent.restore.target import OUR_PREFIX, Opened

_STATUS = Path("/proc/self/status")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


class EntryWriter:
    """Writes entries that are no directories.  Files from any thread, the rest from one."""

    def __init__(self, content: ContentWriter, anchors: Anchors) -> None:
        """Take what fills files, and what knows of hard links."""
        self._content = content
        self._anchors = anchors
        self._prefix = OUR_PREFIX + secrets.token_hex(8).encode()
        self._numbers = count()
        self._owner = os.geteuid(), os.getegid()
        self._never_opened = ~0o777 | _umask()  # bits that no new file has

    def write(
        self,
        directory: Opened,
        source: int,
        entry: Entry,
        whole: Window | None = None,
    ) -> Unset:
        """Write `entry`, or link it to what was written; OSError or ObjectDamaged where not.

        `whole` is all of a file, where that has been fetched.
        """
        if entry.links > 1 and self._anchors.link(source, entry, directory):
            return Unset()
        if entry.kind is Kind.FILE:
            return self._file(directory, source, entry, whole)
        unset = self._special(directory, entry)
        if entry.links > 1:
            self._anchors.anchor(source, entry, directory, entry.name)
        return unset

    def _file(self, directory: Opened, source: int, entry: Entry, whole: Window | None) -> Unset:
        if entry.flaw is Flaw.UNREADABLE:
            raise ObjectDamaged("the file could not be read when it was backed up")
        temporary = b"%s-%d" % (self._prefix, next(self._numbers))
        owner = self._owner if directory.is_plain else None
        # nobody else can reach it there; elsewhere it is closed to others until it is whole
        is_ours = owner == (entry.uid, entry.gid) and not entry.mode & self._never_opened
        mode = entry.mode if is_ours else None
        descriptor = os.open(
            temporary, _CREATE, 0o600 if mode is None else mode, dir_fd=directory.descriptor
        )
        is_published = False
        try:
            self._content.fill(descriptor, entry, whole)
            if not directory.made:
                attributes.drop_inherited(descriptor, attributes.ACL_ACCESS)
            unset = attributes.apply(descriptor, entry, owner=owner, mode=mode)
            is_published = self._publish(directory, source, entry, temporary)
        finally:
            os.close(descriptor)
            if not is_published:
                with suppress(FileNotFoundError):  # or it would hide why
                    os.unlink(temporary, dir_fd=directory.descriptor)
        return unset

    def _publish(self, directory: Opened, source: int, entry: Entry, temporary: bytes) -> bool:
        """Give a whole file its name, FileExistsError where that is taken; tell if it was wanted.

        It is not where another thread wrote another name of the same file meanwhile.
        """
        if (
            entry.links > 1
            and not self._anchors.anchor(source, entry, directory, temporary)
            and self._anchors.link(source, entry, directory)
        ):
            return False
        rename.to_free_name(directory.descriptor, temporary, entry.name)
        return True

    def _special(self, directory: Opened, entry: Entry) -> Unset:
        at = directory.descriptor
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, entry.name, dir_fd=at)
        else:
            os.mknod(entry.name, _TYPES[entry.kind] | 0o600, entry.device, dir_fd=at)
        try:
            return _dress(at, entry)
        except (OSError, ValueError, OverflowError):
            os.unlink(entry.name, dir_fd=at)
            raise


def _dress(at: int, entry: Entry) -> Unset:
    """Set the attributes of what must not be opened: a pipe would wait, a device would act."""
    if entry.kind is Kind.SYMLINK:
        return attributes.apply(b"/proc/self/fd/%d/%s" % (at, entry.name), entry, follow=False)
    descriptor = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        if stat.S_IFMT(os.fstat(descriptor).st_mode) != _TYPES[entry.kind]:
            raise OSError(errno.ESTALE, "a file was exchanged while it was restored")
        return attributes.apply(b"/proc/self/fd/%d" % descriptor, entry)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """Return what of a mode a new file does not get, without umask(2), which would set it."""
    for line in _STATUS.read_bytes().splitlines():
        if line.startswith(b"Umask:"):
            return int(line.split()[1], 8)
    return 0o777  # a kernel that does not say
