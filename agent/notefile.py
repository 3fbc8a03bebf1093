"""Small files of state, replaced whole: what was noted stays noted, though the power goes."""

import os
from pathlib import Path

from agent.errors import StoreUnavailable


def replace_durably(path: Path, data: bytes) -> None:
    """Put `data` in the place of what `path` holds: content before name, name before return.

    Raises StoreUnavailable where that fails; the old content is there then, or the new.
    """
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error
