"""Owner, extended attributes, mode and times of what was restored, in the one order that works.

A change of owner clears set-id bits and file capabilities, so it comes first; an ACL and the mode
write each other's mask, so the mode comes after; times come last.  What this process may not set
is counted and left out: a restore by an ordinary user is still a restore.
"""

import errno
import os
from dataclasses import dataclass

from agent.model.tree import Entry, Kind

ACL_ACCESS = "system.posix_acl_access"
ACL_DEFAULT = "system.posix_acl_default"
_REFUSED = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL}
_WITHOUT_SET_ID = 0o1777


@dataclass(frozen=True, slots=True)
class Unset:
    """What could not be set on one file."""

    owners: int = 0
    xattrs: int = 0


def apply(
    where: int | bytes,
    entry: Entry,
    *,
    follow: bool = True,
    owner: tuple[int, int] | None = None,
    mode: int | None = None,
) -> Unset:
    """Give `where`, a descriptor or a path that nobody can redirect, what `entry` had.

    `follow=False` is for a symbolic link itself; `owner` and `mode` are what it has, if known.
    Raises OSError where the file system fails, and OverflowError or ValueError for values that no
    file can have.
    """
    owned = owner == (entry.uid, entry.gid) or _set_owner(where, entry, follow=follow)
    refused = 0
    for name, value in entry.xattrs:
        refused += not _set_xattr(where, name, value, follow=follow)
    if entry.kind is not Kind.SYMLINK:
        # set-id under another owner would hand that owner's rights to whoever runs it
        wanted = entry.mode & (0o7777 if owned else _WITHOUT_SET_ID)
        if mode != wanted or entry.xattrs:  # an ACL among these changes the mode
            os.chmod(where, wanted)
    os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=follow)
    return Unset(int(not owned), refused)


def drop_inherited(descriptor: int, *names: str) -> None:
    """Remove ACLs that a new file took from the default ACL of a directory that was there."""
    for name in names:
        try:
            os.removexattr(descriptor, name)
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.EOPNOTSUPP}:
                raise


def _set_owner(where: int | bytes, entry: Entry, *, follow: bool) -> bool:
    try:
        os.chown(where, entry.uid, entry.gid, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _REFUSED:  # EINVAL: an id that this user namespace has not
            raise
        return False
    return True


def _set_xattr(where: int | bytes, name: bytes, value: bytes, *, follow: bool) -> bool:
    try:
        os.setxattr(where, name, value, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True
