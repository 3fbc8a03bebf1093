"""Where a restore may write: a directory that the requester neither owns nor can reach into."""

import os
import stat

from agent.errors import RestoreRefused

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_LAST = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def open_target(path: str, requester_uid: int, *, privileged: bool) -> int:
    """Return a descriptor of the directory at `path`, reached without following any link.

    The descriptor, not the path, is what is written to, so nothing that is renamed afterwards
    matters.  Raises RestoreRefused.  Without privileges a restore can only be the requester's own.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not path.startswith("/") or ".." in parts:
        raise RestoreRefused("the target is no absolute path", hint="give it from the root on")
    try:
        directory = _walk(parts)
    except OSError as error:
        raise RestoreRefused(
            f"the target cannot be opened: {os.strerror(error.errno or 0)}",
            hint="it must be a directory that exists, with no symbolic link on the way",
        ) from error
    try:
        if privileged:
            _refuse_reachable(os.fstat(directory), requester_uid)
    except RestoreRefused:
        os.close(directory)
        raise
    return directory


def _walk(parts: list[str]) -> int:
    directory = os.open("/", _STEP if parts else _LAST)
    for position, part in enumerate(parts, 1):
        try:
            following = os.open(part, _LAST if position == len(parts) else _STEP, dir_fd=directory)
        finally:
            os.close(directory)
        directory = following
    return directory


def _refuse_reachable(status: os.stat_result, requester_uid: int) -> None:
    """Refuse what would put the restored files into the requester's hands.

    Root's hands reach everywhere on this host, so for root the owner says nothing.
    """
    if requester_uid and status.st_uid == requester_uid:
        raise RestoreRefused(
            "the target belongs to who asks",
            hint="restore to where the files came from, or to the application's own directory",
        )
    if status.st_mode & stat.S_IWOTH:
        raise RestoreRefused("anybody may write to the target", hint="take that right away first")
