"""Parity: what an object loses up to two pieces in sixteen, and still comes back whole.

    description   head ‖ hashes ‖ check
    parity        the first parity piece of every group, then the second of every group
    description   check ‖ hashes ‖ head, so that it is found from the end

Reed-Solomon over the object's bytes as they are stored: no key is needed to make, check or use it
(docs/format.md 10, docs/decisions/0016-parity.md).  Pieces of a group lie far apart in the object,
so that one long stretch of damage takes few from each.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import zfec

from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, RepositoryTooNew

MAGIC: Final = b"VITRPRTY"
VERSION: Final = 1
PIECE_BYTES: Final = 64 * 1024
GROUP_PIECES: Final = 16  # of data, at most
PARITY_PIECES: Final = 2  # of each group: 12.5 % of a full pack
MAX_OBJECT_BYTES: Final = 128 * 1024 * 1024  # above any pack; a lying description costs no more
HASH_BYTES: Final = 16  # they find damage; whether what comes back is right, the digest tells
HEAD: Final = struct.Struct("<8sBBBxIQ32s")
_CHECK_BYTES: Final = 32
_KNOWN: Final = (GROUP_PIECES, PARITY_PIECES, PIECE_BYTES)

Buffer = bytes | bytearray | memoryview


class Geometry(NamedTuple):
    """Which piece of an object of `size` bytes lies where, and belongs to which group."""

    size: int

    @property
    def pieces(self) -> int:
        """How many pieces the object has; the last one may be short."""
        return -(-self.size // PIECE_BYTES)

    @property
    def groups(self) -> int:
        """How many groups they are dealt out to, one by one."""
        return -(-self.pieces // GROUP_PIECES)

    @property
    def coded_bytes(self) -> int:
        """The length of every parity piece; shorter pieces of data are coded as if zeros followed.

        An object of one piece has parity of its own length.
        """
        return min(PIECE_BYTES, self.size)

    @property
    def description_bytes(self) -> int:
        """The length of each of the two descriptions."""
        hashes = self.pieces + PARITY_PIECES * self.groups
        return HEAD.size + HASH_BYTES * hashes + _CHECK_BYTES

    @property
    def parity_object_bytes(self) -> int:
        """The length of the whole parity object."""
        return 2 * self.description_bytes + PARITY_PIECES * self.groups * self.coded_bytes

    def members(self, group: int) -> range:
        """Return the numbers of a group's pieces."""
        return range(group, self.pieces, self.groups)

    def piece(self, number: int) -> tuple[int, int]:
        """Return where a piece begins in the object, and its length."""
        offset = number * PIECE_BYTES
        return offset, min(PIECE_BYTES, self.size - offset)

    def parity(self, number: int) -> tuple[int, int]:
        """Return where a parity piece begins in the parity object, and its length."""
        return self.description_bytes + number * self.coded_bytes, self.coded_bytes

    def parity_number(self, group: int, row: int) -> int:
        """Return the number of a group's parity piece `row`."""
        return row * self.groups + group


class Description(NamedTuple):
    """What a parity object says of the object it is for, its own check verified."""

    digest: bytes  # BLAKE3 of the object: a pack's id
    geometry: Geometry
    hashes: bytes

    def is_piece(self, number: int, data: Buffer) -> bool:
        """Tell whether these are the bytes of the object's piece `number`, all of them."""
        return len(data) == self.geometry.piece(number)[1] and self._has_hash(number, data)

    def is_parity(self, number: int, data: Buffer) -> bool:
        """Tell whether these are the bytes of parity piece `number`, all of them."""
        right = len(data) == self.geometry.coded_bytes  # a hash may be of nothing, by a stranger
        return right and self._has_hash(self.geometry.pieces + number, data)

    def _has_hash(self, block: int, data: Buffer) -> bool:
        at = block * HASH_BYTES
        return _hash(data) == self.hashes[at : at + HASH_BYTES]


def encode(data: Buffer, digest: bytes) -> list[bytes]:
    """Return the parity object of an object with these bytes and this BLAKE3, in parts.

    Raises ValueError for more than MAX_OBJECT_BYTES: the caller asks `Geometry` first.
    """
    if len(data) > MAX_OBJECT_BYTES:
        raise ValueError(f"an object of {len(data)} bytes is more than parity is made for")
    view, geometry = memoryview(data), Geometry(len(data))
    coded: list[list[bytes]] = [[] for _ in range(PARITY_PIECES)]
    for group in range(geometry.groups):
        pieces = [_padded(view, geometry, number) for number in geometry.members(group)]
        for row, block in enumerate(_encoded(pieces)):
            coded[row].append(block)
    parity = [block for row in coded for block in row]
    head = HEAD.pack(MAGIC, VERSION, *_KNOWN, len(data), digest)
    blocks: list[Buffer] = [*_split(view, geometry), *parity]
    hashes = b"".join(_hash(block) for block in blocks)
    check = object_name(head + hashes)
    return [head, hashes, check, *parity, check, hashes, head]


def geometry_of(head: bytes, name: str) -> Geometry:
    """Return what a head says of its object's size; raise where no version of ours wrote it."""
    if len(head) != HEAD.size:
        raise ObjectDamaged(f"{name} is cut short")
    magic, version, pieces, parity, piece_bytes, size, _ = HEAD.unpack(head)
    if magic != MAGIC:
        raise ObjectDamaged(f"{name} is no parity")
    if version != VERSION or (pieces, parity, piece_bytes) != _KNOWN:
        raise RepositoryTooNew(
            f"{name} is parity of a kind that this program does not know",
            hint="install a newer Vitrine; nothing was changed",
        )
    if size > MAX_OBJECT_BYTES:
        raise ObjectDamaged(f"{name} says it is for {size} bytes, more than any object of ours")
    return Geometry(size)


def first_description(data: bytes, name: str) -> Description:
    """Return the description that a parity object begins with."""
    return _description(data[: HEAD.size], data[HEAD.size : -_CHECK_BYTES], data[-32:], name)


def last_description(data: bytes, name: str) -> Description:
    """Return the description that a parity object ends with."""
    return _description(data[-HEAD.size :], data[_CHECK_BYTES : -HEAD.size], data[:32], name)


def solve(geometry: Geometry, group: int, known: Mapping[int, Buffer]) -> list[bytes] | None:
    """Return a group's pieces, or None where too few of its blocks are known.

    `known` has the pieces by their place in the group, and parity piece `row` as place
    `len(members) + row`; all are right, or what is returned is not.
    """
    members = geometry.members(group)
    spare = [place for place in sorted(known) if place >= len(members)]
    blocks, places = [], []
    for place in range(len(members)):
        use = place if place in known else (spare.pop(0) if spare else None)
        if use is None:
            return None
        blocks.append(bytes(known[use]).ljust(geometry.coded_bytes, b"\0"))
        places.append(use)
    decoder = zfec.Decoder(len(members), len(members) + PARITY_PIECES)
    decoded = decoder.decode(tuple(blocks), tuple(places))
    return [
        bytes(block[: geometry.piece(number)[1]])
        for block, number in zip(decoded, members, strict=True)
    ]


def _description(head: bytes, hashes: bytes, check: bytes, name: str) -> Description:
    geometry = geometry_of(head, name)
    expected = HEAD.size + len(hashes) + _CHECK_BYTES
    if expected != geometry.description_bytes or object_name(head + hashes) != check:
        raise ObjectDamaged(f"{name} is damaged: its description does not match its check")
    return Description(head[-32:], geometry, hashes)


def _encoded(blocks: list[bytes]) -> list[bytes]:
    """Return a group's parity pieces."""
    count = len(blocks)
    encoder = zfec.Encoder(count, count + PARITY_PIECES)
    wanted = tuple(range(count, count + PARITY_PIECES))
    return list(encoder.encode(tuple(blocks), wanted))


def _padded(view: memoryview, geometry: Geometry, number: int) -> bytes:
    offset, length = geometry.piece(number)
    return bytes(view[offset : offset + length]).ljust(geometry.coded_bytes, b"\0")


def _split(view: memoryview, geometry: Geometry) -> Iterator[memoryview]:
    for number in range(geometry.pieces):
        offset, length = geometry.piece(number)
        yield view[offset : offset + length]


def _hash(data: Buffer) -> bytes:
    return object_name(data)[:HASH_BYTES]
