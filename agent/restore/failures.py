"""Which failures are one file's, which end a restore, and what is said of them."""

import errno

from agent.errors import RepositoryError, RestoreIncomplete, VitrineError

# a hostile tree may hold values that the kernel's interface cannot even be asked to set
OF_ONE_FILE = (OSError, RepositoryError, ValueError, OverflowError)
_MOST = 400  # characters
_ENDS_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def refuse_end(error: Exception) -> None:
    """Raise RestoreIncomplete where after `error` nothing more can be restored."""
    if isinstance(error, OSError) and error.errno in _ENDS_ALL:
        raise RestoreIncomplete(
            f"the restore ended early, the target takes no more: {error.strerror}",
            hint="make room, or name another directory, and restore again",
        ) from error


def reason(error: Exception) -> str:
    """Return what the report says of a file that failed, in a few words: a batch's fit a socket."""
    if isinstance(error, VitrineError):
        return error.message[:_MOST]
    if isinstance(error, OSError):
        return error.strerror or "the target refused"
    return "it has a value that no file can have"
