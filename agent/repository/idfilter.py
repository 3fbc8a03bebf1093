"""A filter of ids: whether one may be among those added, in bounded memory; never a wrong no."""

import struct
from collections.abc import Iterable

_BITS = 1 << 23  # 1 MiB: of a million ids added, one in nine others is taken for one of them
_MASK = _BITS - 1
_NUMBER = struct.Struct("<I")  # of an id's first bytes, which are as good as random


class IdFilter:
    """One bit for each slot that ids fall into; most lookups need no more.  Not thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._slots = bytearray(_BITS // 8)

    def add(self, ids: Iterable[bytes]) -> None:
        """Remember ids."""
        slots, number = self._slots, _NUMBER.unpack_from
        for id_ in ids:
            slot = number(id_)[0] & _MASK
            slots[slot >> 3] |= 1 << (slot & 7)

    def matching(self, ids: Iterable[bytes]) -> list[bytes]:
        """Return those of `ids` that may have been added: all that were, and a few others."""
        slots, number = self._slots, _NUMBER.unpack_from
        found = []
        for id_ in ids:
            slot = number(id_)[0] & _MASK
            if slots[slot >> 3] >> (slot & 7) & 1:
                found.append(id_)
        return found
