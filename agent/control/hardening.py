"""What a process that holds keys does before it loads them, daemon or not."""

import ctypes
import os
import resource

REPOSITORY_UMASK = 0o027  # the repository's group reads objects (docs/systemd.md)
_PR_SET_DUMPABLE = 4  # prctl(2)


def harden(umask: int = 0o077) -> None:
    """No core dump, no debugger of the same user; files are made with `umask`."""
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
