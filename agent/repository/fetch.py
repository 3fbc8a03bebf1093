"""Whole objects that are small by nature, with a bound on what a lying store can cost."""

from typing import Final

from agent.errors import ObjectDamaged
from agent.store.base import Store

MiB = 1024 * 1024
MAX_SMALL_BYTES: Final = MiB  # the repository object, keyslots, enrolments, snapshots: a few KiB


def get_bounded(store: Store, name: str, most: int = MAX_SMALL_BYTES) -> bytes:
    """Return the object; raise ObjectDamaged where it is longer than `most` bytes."""
    size = store.size(name)
    if size > most:
        raise ObjectDamaged(
            f"{name} has {size} bytes, more than any such object of ours",
            hint="bring it back from a copy of the repository",
        )
    return store.get_range(name, 0, size)
