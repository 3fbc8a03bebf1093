"""Fuzz targets of parity, which anybody who keeps the storage can replace or make."""

import struct
from collections.abc import Iterator

from agent.crypto.naming import object_name
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.repository.parity import (
    GROUP_PIECES,
    HASH_BYTES,
    HEAD,
    MAGIC,
    PARITY_PIECES,
    PIECE_BYTES,
    VERSION,
    Geometry,
    first_description,
    geometry_of,
)
from agent.repository.parityobjects import check_parity, healed
from agent.store.memory import MemoryStore
from tests.fuzz.target import KiB, Target
from tests.fuzz.vectors import DAMAGED, vector

_SIZE = struct.Struct("<I")
_MOST = 4 * PIECE_BYTES  # of an object here: a few pieces, of which the last may be short


def _head(data: bytes) -> None:
    """Check that a head says a size that some object can have, and a geometry that adds up."""
    geometry = geometry_of(data, "parity/of")
    held = [number for group in range(geometry.groups) for number in geometry.members(group)]
    assert sorted(held) == list(range(geometry.pieces))
    assert sum(geometry.piece(number)[1] for number in held) == geometry.size
    if geometry.description_bytes <= len(data):
        first_description(data, "parity/of")


def _head_seeds() -> Iterator[bytes]:
    for size in (1, PIECE_BYTES, 33 * PIECE_BYTES + 5):
        yield HEAD.pack(MAGIC, VERSION, GROUP_PIECES, PARITY_PIECES, PIECE_BYTES, size, bytes(32))


def _object(data: bytes) -> None:
    """Check that whatever stands as parity, nothing comes of it but the object itself."""
    _heals_nothing_else(data)


def _sealed(data: bytes) -> None:
    """Check the same of parity whose every hash fits, but for what it says of the object."""
    size = _SIZE.unpack(data[:4].ljust(4, b"\0"))[0] % _MOST
    digest, body = data[4:36].ljust(32, b"\1"), data[36:] or b"\2"
    geometry = Geometry(size)
    blocks = [
        (body[number:] + body)[: geometry.coded_bytes].ljust(geometry.coded_bytes, b"\3")
        for number in range(PARITY_PIECES * geometry.groups)
    ]
    of_data = (body * HASH_BYTES)[: geometry.pieces * HASH_BYTES]
    hashes = of_data.ljust(geometry.pieces * HASH_BYTES, b"\4")
    hashes += b"".join(object_name(block)[:HASH_BYTES] for block in blocks)
    known = (GROUP_PIECES, PARITY_PIECES, PIECE_BYTES)
    head = HEAD.pack(MAGIC, VERSION, *known, size, digest)
    check = object_name(head + hashes)
    _heals_nothing_else(b"".join([head, hashes, check, *blocks, check, hashes, head]))


def _heals_nothing_else(parity: bytes) -> None:
    name, frozen = vector("snapshot")
    store = MemoryStore()
    for kind in ("repository", "enrolment"):
        store.put(*_held(kind))
    place = layout.parity_of(name)
    assert place is not None
    store.put(place, [parity])
    found = healed(store, name)
    if found is not None and Genuine(store).passes(name, found):
        assert found == frozen
    check_parity(store, place, len(parity), read_data=True)


def _held(kind: str) -> tuple[str, list[bytes]]:
    name, data = vector(kind)
    return name, [data]


TARGETS = (
    Target(
        "parity_head",
        ("agent.repository.parity:geometry_of", "agent.repository.parity:first_description"),
        _head,
        errors=DAMAGED,
        seeds=_head_seeds,
    ),
    Target(
        "parity_object",
        ("agent.repository.parityobjects:check_parity", "agent.repository.parityobjects:healed"),
        _object,
        errors=DAMAGED,
        seeds=lambda: [vector("parity")[1]],
    ),
    Target(
        "parity_sealed",
        ("agent.repository.parity:solve", "agent.repository.genuine:Genuine"),
        _sealed,
        errors=DAMAGED,
        seeds=lambda: [_SIZE.pack(700) + bytes(40), _SIZE.pack(2 * PIECE_BYTES + 9) + b"\1" * KiB],
    ),
)
