"""A service's own state directory: one process at a time, and an audit from its first day on."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from agent.errors import ConfigInvalid

_LOCK = "lock"


class StateDirectory:
    """A directory that is ours alone until it is closed."""

    def __init__(
        self, path: Path, busy: ConfigInvalid, whose: str, begin: Callable[[], None]
    ) -> None:
        """Make it if it is missing, lock it, and have `begin` begin the audit if it is new.

        Raises `busy` where another process uses it, ConfigInvalid where it cannot be used.  In a
        directory in use nothing is begun: an audit that is gone is not to be made anew unseen.
        """
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(path / _LOCK, busy)
            if not any(entry.name != _LOCK for entry in path.iterdir()):
                begin()
        except OSError as error:
            raise ConfigInvalid(
                f"the state directory {path} cannot be used: {error.strerror}",
                hint=f"it must exist, belong to {whose}, and have space",
            ) from error

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def _locked(path: Path, busy: ConfigInvalid) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise busy from error
    return descriptor
