"""Giving a file its name for good, unless something has that name."""

import ctypes
import errno
import os

_NOREPLACE = 1  # renameat2(2)
_NOT_HERE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}  # a file system that cannot promise it
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP}  # link(2): exFAT and its like

_libc = ctypes.CDLL(None, use_errno=True)


def to_free_name(directory: int, temporary: bytes, name: bytes) -> None:
    """Rename within `directory`; raise FileExistsError where `name` is taken, and leave both."""
    if not _libc.renameat2(directory, temporary, directory, name, _NOREPLACE):
        return
    number = ctypes.get_errno()
    if number not in _NOT_HERE:
        raise OSError(number, os.strerror(number))
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _without_links(directory, temporary, name)
    else:
        os.unlink(temporary, dir_fd=directory)


def _without_links(directory: int, temporary: bytes, name: bytes) -> None:
    """Rename where there is neither: look first, which is all that can be done there."""
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    raise FileExistsError(errno.EEXIST, "the name is taken")
