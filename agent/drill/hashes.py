"""Whether restored files are what was backed up: each is read again from the disk and hashed."""

import os
from typing import NamedTuple

from agent.crypto.naming import ObjectHasher
from agent.model.tree import Kind
from agent.restore.plan import Lost, Selection

_STEP_BYTES = 4 * 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Compared(NamedTuple):
    """How many files were compared with the hash in their entry, and what came of it."""

    files: int
    bytes: int
    different: int  # other bytes than were backed up: must never be
    missing: int  # not restored, or not readable where they were restored
    without_hash: int  # could not be read when they were backed up


def compare(selection: Selection, target: int) -> Compared:
    """Compare everything of `selection` with what lies below the descriptor `target`."""
    files = size = different = missing = without = 0
    for step in selection.walk():
        if isinstance(step, Lost):
            missing += 1
        elif step.entry.kind is not Kind.FILE:
            continue
        elif not step.entry.digest:
            without += 1
        else:
            found = _digest(target, step.path)
            missing += found is None
            different += found is not None and found != step.entry.digest
            files += 1
            size += step.entry.size
    return Compared(files, size, different, missing, without)


def _digest(target: int, path: bytes) -> bytes | None:
    """Return a file's BLAKE3, or None where it cannot be read."""
    try:
        descriptor = os.open(path, _OPEN, dir_fd=target)
    except OSError:
        return None
    hasher = ObjectHasher()
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while data := file.read(_STEP_BYTES):
            hasher.update(data)
    return hasher.digest()
