"""What disks do to packs: within what parity promises, and beyond it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from agent.repository import layout
from agent.repository.parity import PIECE_BYTES, Geometry
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.restores import HandMade
from tests.fakes.vaults import Vault, make_vault

SECTOR = 4096
KiB = 1024
SIZES = (500, 30 * KiB, 100 * KiB, 700 * KiB, 1500 * KiB, 3000 * KiB)
SIZES = (500, 30 * KiB, 100 * KiB, 700 * KiB, 1500 * KiB, 3000 * KiB)


class ManyPacks:
    """A vault of many packs of all sizes, each with its snapshot."""

    def __init__(
        self, scratch: Path, commits: int, chance: Random, sizes: Sequence[int] = SIZES
    ) -> None:
        """Make so many snapshots, each of one file up to so large and a tree page: two packs."""
        self.store = MemoryStore()
        self.vault: Vault = make_vault(self.store)
        made = HandMade(self.store, self.vault, scratch)
        for number in range(commits):
            size = chance.choice(sizes)
            data = chance.randbytes(chance.randrange(size // 2, size))
            made.commit_entries(made.file(b"f%d" % number, data))

    def packs(self) -> list[str]:
        """Return the names of all packs."""
        return sorted(listed.name for listed in self.store.list(layout.PACKS))


def put_instead(store: Store, name: str, data: bytes) -> None:
    """Put other bytes in an object's place."""
    store.delete(name)
    store.put(name, [data])


def two_pieces_a_group(data: bytes, chance: Random) -> bytes:
    """Zero two pieces of every group: 128 KiB of each MiB."""
    return _without(data, 2, chance)


def three_pieces_of_a_group(data: bytes, chance: Random) -> bytes:
    """Zero a piece more than parity can bring back, or as many as a small object has, and cut it.

    For objects of three pieces or more.
    """
    geometry = Geometry(len(data))
    group = chance.randrange(geometry.groups)
    return _zeroed(data, chance.sample(list(geometry.members(group)), 3))


def two_sectors(data: bytes, chance: Random) -> bytes:
    """Fill two sectors with something else, as a disk does that lost them."""
    damaged = bytearray(data)
    for _ in range(2):
        at = chance.randrange(len(data)) // SECTOR * SECTOR
        length = min(SECTOR, len(data) - at)
        damaged[at : at + length] = chance.randbytes(length)
    return bytes(damaged)


def a_burst(data: bytes, chance: Random) -> bytes:
    """Zero one stretch: 64 KiB, and 128 KiB more for each MiB above the first."""
    length = (2 * Geometry(len(data)).groups - 1) * PIECE_BYTES
    at = chance.randrange(max(1, len(data) - length))
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def cut_short(data: bytes, chance: Random) -> bytes:
    """Cut what a burst may take, from the end; of a small object everything."""
    if len(data) <= 2 * PIECE_BYTES:
        return b""
    return data[: len(data) - chance.randrange(1, PIECE_BYTES)]


def lengthened(data: bytes, chance: Random) -> bytes:
    """Append what does not belong to it."""
    return data + chance.randbytes(100)


def one_bit(data: bytes, chance: Random) -> bytes:
    """Flip one bit."""
    damaged = bytearray(data)
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


Damage = Callable[[bytes, Random], bytes]
HEALS: tuple[Damage, ...] = (
    two_pieces_a_group, two_sectors, a_burst, cut_short, lengthened, one_bit,
)  # fmt: skip


def _without(data: bytes, each: int, chance: Random) -> bytes:
    geometry = Geometry(len(data))
    gone: list[int] = []
    for group in range(geometry.groups):
        members = list(geometry.members(group))
        gone += chance.sample(members, min(each, len(members)))
    return _zeroed(data, gone)


def _zeroed(data: bytes, pieces: list[int]) -> bytes:
    geometry, damaged = Geometry(len(data)), bytearray(data)
    for number in pieces:
        offset, length = geometry.piece(number)
        damaged[offset : offset + length] = bytes(length)
    return bytes(damaged)
