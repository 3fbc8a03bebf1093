"""Reads and writes of open files that are whole, or raise: system calls may do less than asked."""

import os
from collections.abc import Sequence

from agent.errors import ObjectDamaged

_MAX_PARTS = os.sysconf("SC_IOV_MAX")  # of one writev(2)
_COMPARED_BYTES = 1024 * 1024  # at a time, when an object meets its copy


def read_exactly(file: int, offset: int, length: int, name: str) -> bytes:
    """Return exactly `length` bytes from `offset`; raise ObjectDamaged, of `name`, at an end."""
    pieces = []
    while length:
        piece = os.pread(file, length, offset)
        if not piece:
            raise ObjectDamaged(f"{name} ended while it was read")
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_all(file: int, parts: Sequence[memoryview]) -> None:
    """Write `parts` (of bytes, none empty) from the file's position on."""
    rest = [*parts]
    first = 0  # of those not yet written
    while first < len(rest):
        written = os.writev(file, rest[first : first + _MAX_PARTS])
        while first < len(rest) and written >= len(rest[first]):
            written -= len(rest[first])
            first += 1
        if written:
            rest[first] = rest[first][written:]


def holds(file: int, parts: Sequence[memoryview], name: str) -> bool:
    """Tell whether the file, that of `name`, holds the concatenation of `parts` and no more."""
    if os.fstat(file).st_size != sum(len(part) for part in parts):
        return False
    at = 0
    for part in parts:
        for start in range(0, len(part), _COMPARED_BYTES):
            piece = part[start : start + _COMPARED_BYTES]
            if read_exactly(file, at, len(piece), name) != piece:
                return False
            at += len(piece)
    return True
