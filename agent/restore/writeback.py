"""What is restored goes to the disk while more is decoded, and not all of it at the end."""

import ctypes
import os

from agent.errors import RestoreIncomplete

FROM_BYTES = 256 * 1024  # smaller ones are left for syncfs(2), which brings them into order
_START = 2  # SYNC_FILE_RANGE_WRITE: begin, and wait for nothing

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin(descriptor: int, size: int) -> None:
    """Have the kernel begin to write a large file that is complete.

    A hint: a file system that takes none, or fails now, is asked again by `finish`.
    """
    if size >= FROM_BYTES:
        _libc.sync_file_range(descriptor, 0, 0, _START)


def finish(target: int) -> None:
    """Make durable all that the file system of `target` holds; RestoreIncomplete where it fails.

    os.fsync for each file would take ten times as long.
    """
    if _libc.syncfs(target) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise RestoreIncomplete(f"what was restored could not be made durable: {reason}")
