"""Whatever up to two pieces of a group lose comes back; what loses more is never made up."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.ids import PackId
from agent.repository import layout
from agent.repository.parity import (
    GROUP_PIECES,
    HEAD,
    MAX_OBJECT_BYTES,
    PARITY_PIECES,
    PIECE_BYTES,
    Geometry,
    encode,
    first_description,
    last_description,
    solve,
)
from agent.repository.parityobjects import check_parity, healed
from agent.store.memory import MemoryStore

KiB = 1024
MiB = 1024 * KiB
_NOISE = random.Random(2).randbytes(5 * MiB)
SIZES = st.one_of(
    st.integers(1, 5 * MiB),
    st.builds(lambda n, d: max(1, n * PIECE_BYTES + d), st.integers(0, 70), st.integers(-1, 1)),
)


class Protected:
    """A pack's bytes, its parity, and a store with both."""

    def __init__(self, size: int) -> None:
        """Make an object of that size."""
        self.data = _NOISE[:size]
        self.digest = object_name(self.data)
        self.name = layout.pack(PackId(self.digest))
        self.parity_name = layout.parity(PackId(self.digest))
        self.parity = b"".join(encode(self.data, self.digest))
        self.geometry = Geometry(size)
        self.store = MemoryStore()
        self.store.put(self.name, [self.data])
        self.store.put(self.parity_name, [self.parity])

    def replace(self, name: str, data: bytes) -> None:
        """Put other bytes in an object's place."""
        self.store.delete(name)
        self.store.put(name, [data])

    def healed(self) -> bytes | None:
        """Return what the object comes back as."""
        found = healed(self.store, self.name)
        return None if found is None else bytes(found)

    def without(self, pieces: list[int]) -> bytes:
        """Return the object with these pieces zeroed."""
        data = bytearray(self.data)
        for number in pieces:
            offset, length = self.geometry.piece(number)
            data[offset : offset + length] = bytes(length)
        return bytes(data)


def _erased(made: Protected, each: int, chance: random.Random) -> list[int]:
    """Return the numbers of up to `each` pieces of every group."""
    found: list[int] = []
    for group in range(made.geometry.groups):
        members = list(made.geometry.members(group))
        found += chance.sample(members, min(each, len(members)))
    return found


@given(size=SIZES)
@settings(max_examples=60, deadline=None)
def test_the_geometry_adds_up(size: int) -> None:
    """Each piece is in one group, no group is too large, and the object is as long as said."""
    made = Geometry(size)
    every = sorted(number for group in range(made.groups) for number in made.members(group))
    assert every == list(range(made.pieces))
    assert all(len(made.members(group)) <= GROUP_PIECES for group in range(made.groups))
    assert sum(made.piece(number)[1] for number in every) == size
    parity = b"".join(encode(_NOISE[:size], bytes(32)))
    assert len(parity) == made.parity_object_bytes


@given(size=SIZES, lost=st.integers(0, 2), seed=st.integers())
@settings(max_examples=80, deadline=None)
def test_two_pieces_of_every_group_come_back(size: int, lost: int, seed: int) -> None:
    """Of an object of any size."""
    made = Protected(size)
    made.replace(made.name, made.without(_erased(made, lost, random.Random(seed))))
    assert made.healed() == made.data


@given(size=SIZES, seed=st.integers())
@settings(max_examples=40, deadline=None)
def test_one_piece_and_one_parity_piece_of_every_group_come_back(size: int, seed: int) -> None:
    """Damage does not choose."""
    made, chance = Protected(size), random.Random(seed)
    made.replace(made.name, made.without(_erased(made, 1, chance)))
    parity = bytearray(made.parity)
    for group in range(made.geometry.groups):
        row = chance.randrange(PARITY_PIECES)
        offset, length = made.geometry.parity(made.geometry.parity_number(group, row))
        parity[offset : offset + length] = bytes(length)
    made.replace(made.parity_name, bytes(parity))
    assert made.healed() == made.data


@given(groups=st.integers(1, 4), seed=st.integers())
@settings(max_examples=20, deadline=None)
def test_three_pieces_of_a_group_are_lost_and_nothing_is_made_up(groups: int, seed: int) -> None:
    """The answer is none, never other bytes."""
    made = Protected(groups * MiB)
    three = random.Random(seed).sample(list(made.geometry.members(groups - 1)), 3)
    made.replace(made.name, made.without(three))
    assert made.healed() is None


@given(size=st.integers(1, 5 * MiB), at=st.floats(0, 1), length=st.integers(1, 64 * KiB))
@settings(max_examples=40, deadline=None)
def test_a_burst_of_64_kib_anywhere_heals(size: int, at: float, length: int) -> None:
    """And, in a larger object, one of two pieces less one for each group."""
    made = Protected(size)
    burst = max(length, (made.geometry.groups * 2 - 1) * PIECE_BYTES)
    start = int(at * max(0, size - burst))
    data = made.data[:start] + bytes(min(burst, size - start)) + made.data[start + burst :]
    made.replace(made.name, data)
    assert made.healed() == made.data


@given(size=SIZES, lost=st.integers(1, 128 * KiB))
@settings(max_examples=40, deadline=None)
def test_a_cut_object_comes_back(size: int, lost: int) -> None:
    """Up to 128 KiB a MiB, less what the last piece is short of; a small one even when gone."""
    made = Protected(size)
    least = 128 * KiB - PIECE_BYTES * (made.geometry.pieces > 2)
    made.replace(made.name, made.data[: max(0, size - min(lost, least))])
    assert made.healed() == made.data
    if made.geometry.pieces <= PARITY_PIECES:
        made.store.delete(made.name)
        assert made.healed() == made.data


@given(size=st.integers(1, 3 * MiB), at=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_in_parity_is_found_and_does_no_harm(size: int, at: float, bit: int) -> None:
    """Wherever it is: what is healed with the rest is still right."""
    made = Protected(size)
    parity = bytearray(made.parity)
    where = int(at * (len(parity) - 1))
    parity[where] ^= 1 << bit
    made.replace(made.parity_name, bytes(parity))
    with pytest.raises((ObjectDamaged, RepositoryTooNew)):
        check_parity(made.store, made.parity_name, len(parity), read_data=True)
    made.replace(made.name, made.without([0]))
    assert made.healed() == made.data


@given(size=SIZES, front=st.booleans(), cut=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_parity_that_lost_one_end_still_helps(size: int, front: bool, cut: float) -> None:
    """It is described twice: what is left of a cut one heals, or says that it cannot."""
    made = Protected(size)
    left = int(cut * len(made.parity))
    parity = bytes(left) + made.parity[left:] if front else made.parity[:left]
    made.replace(made.parity_name, parity)
    made.replace(made.name, made.without([made.geometry.pieces - 1]))
    assert made.healed() in (None, made.data)
    described = made.geometry.description_bytes
    whole_row = described + made.geometry.groups * made.geometry.coded_bytes
    if (left >= whole_row) if not front else (left <= described):
        assert made.healed() == made.data


@given(size=SIZES)
@settings(max_examples=20, deadline=None)
def test_parity_whose_every_hash_fits_other_bytes_heals_nothing(size: int) -> None:
    """Whoever can write may have made it of something else: the pack's name tells."""
    made = Protected(size)
    other = bytes(byte ^ 1 for byte in made.data[:7]) + made.data[7:]
    made.replace(made.parity_name, b"".join(encode(other, made.digest)))
    made.replace(made.name, other)
    assert made.healed() is None
    assert made.store.get(made.name) == other


@given(data=st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_parity_by_a_stranger_is_damage_and_costs_nothing(data: bytes) -> None:
    """Whatever a head says, with a right magic too."""
    for foreign in (data, first_head(0) + data, first_head(2**63) + data, data + first_head(9)):
        store = MemoryStore()
        name = layout.parity(PackId(bytes(32)))
        store.put(name, [foreign])
        with pytest.raises((ObjectDamaged, RepositoryTooNew)):
            check_parity(store, name, len(foreign), read_data=True)
        assert healed(store, layout.pack(PackId(bytes(32)))) is None


def first_head(size: int) -> bytes:
    """Return a head that is right but for the size."""
    known = (b"VITRPRTY", 1, GROUP_PIECES, PARITY_PIECES, PIECE_BYTES)
    return HEAD.pack(*known, size, bytes(32))


def test_a_size_beyond_any_object_is_refused_before_anything_is_read() -> None:
    """Memory is set aside for no lie."""
    store = MemoryStore()
    name = layout.parity(PackId(bytes(32)))
    store.put(name, [first_head(MAX_OBJECT_BYTES + 1) * 2])
    with pytest.raises(ObjectDamaged, match="more than any object"):
        check_parity(store, name, 2 * HEAD.size, read_data=False)
    with pytest.raises(ValueError, match="more than parity"):
        encode(_Huge(), bytes(32))


class _Huge(bytes):
    """Bytes that say they are more than they are."""

    __slots__ = ()

    def __len__(self) -> int:
        return MAX_OBJECT_BYTES + 1


def test_the_parity_of_an_object_of_many_pieces_is_frozen() -> None:
    """1.3 MiB in two groups, of 11 and 10 pieces: what version 1 says of it, for ever."""
    data = b"".join(object_name(number.to_bytes(4, "little")) for number in range(42_000))
    parity = b"".join(encode(data, object_name(data)))
    expected = "516a89db6d8011d426e32994205987fb256ec45488dd6906189e21e353ba884b"
    assert object_name(parity).hex() == expected


def test_both_descriptions_say_the_same() -> None:
    """From the front and from the end."""
    made = Protected(MiB + 5)
    length = made.geometry.description_bytes
    first = first_description(made.parity[:length], "a")
    last = last_description(made.parity[-length:], "a")
    assert first == last
    assert (first.digest, first.geometry.size) == (made.digest, MiB + 5)


# -- by docs/format.md alone ----------------------------------------------------------------------


def _times(a: int, b: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return product


def _power(exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = _times(result, 2)
    return result


def _inverse(a: int) -> int:
    return next(b for b in range(1, 256) if _times(a, b) == 1)


def _point(place: int) -> int:
    """Return where a place of a group lies: 0, then the powers of 2."""
    return _power(place - 1) if place else 0


def _value(known: dict[int, int], at: int) -> int:
    """Return the value at `at` of the one polynomial through these (place, byte), by Lagrange."""
    total = 0
    for place, byte in known.items():
        term = byte
        for other in known:
            if other != place:
                above = at ^ _point(other)
                below = _point(place) ^ _point(other)
                term = _times(term, _times(above, _inverse(below)))
        total ^= term
    return total


@pytest.mark.parametrize("pieces", [1, 2, 3, 16])
def test_parity_is_the_polynomial_that_the_format_describes(pieces: int) -> None:
    """A reader in thirty years needs no zfec: byte by byte, by Lagrange's formula."""
    size = pieces * PIECE_BYTES - 100
    made = Protected(size)
    geometry = made.geometry
    assert geometry.groups == 1
    for at in (0, 77, PIECE_BYTES - 101):
        bytes_ = {number: made.data[geometry.piece(number)[0] + at] for number in range(pieces)}
        for row in range(PARITY_PIECES):
            offset, _ = geometry.parity(row)
            assert made.parity[offset + at] == _value(bytes_, _point(pieces + row))


def test_any_two_of_a_full_group_come_back() -> None:
    """Every pair, parity pieces among them."""
    made = Protected(MiB)
    geometry = made.geometry
    places = {number: made.data[number * PIECE_BYTES :][:PIECE_BYTES] for number in range(16)}
    blocks = dict(places)
    for row in range(PARITY_PIECES):
        offset, length = geometry.parity(row)
        blocks[16 + row] = made.parity[offset : offset + length]
    for gone in combinations(blocks, 2):
        known = {place: data for place, data in blocks.items() if place not in gone}
        assert solve(geometry, 0, known) == list(places.values())
