"""Names made of content: keyed apart by kind, and those that BLAKE3's authors publish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.naming import IdKey, ObjectHasher, derive, host_id, object_name

EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
# BLAKE3-team/BLAKE3 test_vectors.json, input_len 0 and 1 (byte 0), first 32 bytes
KEY = b"whats the Elvish word for friend"
CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"


def test_an_empty_object_has_the_name_that_blake3_publishes() -> None:
    """The public name of an object is plain BLAKE3."""
    assert object_name(b"").hex() == EMPTY
    assert (
        object_name(b"\0").hex()
        == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"
    )


def test_derived_keys_are_those_of_the_derive_key_mode() -> None:
    """Derivation is BLAKE3's own mode, checked with its published vector."""
    assert (
        derive(CONTEXT, b"").hex()
        == "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"
    )


@given(st.binary(max_size=200))
def test_a_chunk_and_a_page_of_equal_bytes_have_different_names(data: bytes) -> None:
    """Content never goes by the name of a tree page (CVE-2023-36811)."""
    ids = IdKey(KEY)
    assert len({ids.chunk_id(data), ids.tree_id(data), object_name(data)}) == 3


def test_names_depend_on_the_key() -> None:
    """Two vaults name the same bytes differently: nobody can tell that both hold a file."""
    one, other = IdKey(bytes(32)), IdKey(KEY)
    assert one.chunk_id(b"x") != other.chunk_id(b"x")
    assert one.cut_seed != other.cut_seed


def test_the_cut_seed_is_never_the_published_table() -> None:
    """Seed 0 means the public gear table to the library, so the lowest bit is set."""
    assert all(IdKey(bytes([n]) * 32).cut_seed & 1 for n in range(50))


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """A wrong key is a bug, found where it is made."""
    with pytest.raises(ValueError, match="32 bytes"):
        IdKey(bytes(length))


@given(st.lists(st.binary(max_size=50)))
def test_hashing_in_pieces_is_hashing_the_whole(pieces: list[bytes]) -> None:
    """Where the pieces end does not matter."""
    hasher = ObjectHasher()
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == object_name(b"".join(pieces))


def test_a_host_is_named_by_half_the_digest_of_its_key() -> None:
    """16 bytes of BLAKE3 of the public key."""
    assert host_id(b"p" * 32) == object_name(b"p" * 32)[:16]
