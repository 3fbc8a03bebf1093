"""A filter of ids: whether one may be among those added, in bounded memory; never a wrong no."""

import struct
from collections.abc import Iterable

_SLOTS = 1 << 22  # 4 MiB: of a million ids added, one in five others is taken for one of them
_MASK = _SLOTS - 1
_NUMBER = struct.Struct("<I")  # of an id's first bytes, which are as good as random


class IdFilter:
    """One byte for each slot that ids fall into; most lookups need no more.  Not thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._slots = bytearray(_SLOTS)

    def add(self, ids: Iterable[bytes]) -> None:
        """Remember ids."""
        slots, number = self._slots, _NUMBER.unpack_from
        for id_ in ids:
            slots[number(id_)[0] & _MASK] = 1

    def matching(self, ids: Iterable[bytes]) -> list[bytes]:
        """Return those of `ids` that may have been added: all that were, and a few others."""
        slots, number = self._slots, _NUMBER.unpack_from
        return [id_ for id_ in ids if slots[number(id_)[0] & _MASK]]
