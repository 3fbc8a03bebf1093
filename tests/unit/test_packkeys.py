"""Pack keys: sealed by anyone, unsealed by the opening key; frames bound to their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.packkeys import (
    PUBLIC_BYTES,
    SEALED_KEY_BYTES,
    SEED_BYTES,
    FrameCipher,
    OpeningKey,
    SealKey,
)
from agent.errors import ObjectDamaged, WrongKey

OPENING = OpeningKey(bytes(range(SEED_BYTES)))
SEAL = OPENING.seal_key()


def test_a_sealed_key_comes_back_with_its_context_only() -> None:
    """The pack's header is bound to its key."""
    cipher, sealed = SEAL.new_pack_cipher(b"header")
    assert len(sealed) == SEALED_KEY_BYTES
    opened = FrameCipher(OPENING.unseal(sealed, b"header"))
    assert opened.open(7, cipher.seal(7, b"frame", b""), b"") == b"frame"
    with pytest.raises(ObjectDamaged):
        OPENING.unseal(sealed, b"another header")


def test_another_opening_key_does_not_unseal() -> None:
    """Departments are apart."""
    _, sealed = SEAL.new_pack_cipher(b"header")
    with pytest.raises(ObjectDamaged):
        OpeningKey.generate().unseal(sealed, b"header")


@pytest.mark.parametrize(
    "sealed",
    [b"", b"short", bytes(SEALED_KEY_BYTES), b"\xff" * SEALED_KEY_BYTES, bytes(5000)],
    ids=["empty", "short", "zeros", "ones", "long"],
)
def test_what_is_no_sealed_key_is_damage(sealed: bytes) -> None:
    """Low-order points and nonsense are refused by name, not by a library's error."""
    with pytest.raises(ObjectDamaged):
        OPENING.unseal(sealed, b"header")


def test_flipping_any_part_of_a_sealed_key_is_noticed() -> None:
    """Both encapsulations, the ciphertext and the tag count."""
    _, sealed = SEAL.new_pack_cipher(b"header")
    for position in (0, 500, 1087, 1088, 1119, 1120, 1151, 1152, SEALED_KEY_BYTES - 1):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(ObjectDamaged):
            OPENING.unseal(bytes(damaged), b"header")


@pytest.mark.parametrize("raw", [b"", b"\xff" * PUBLIC_BYTES, bytes(PUBLIC_BYTES - 1)])
def test_what_is_no_seal_key_is_refused(raw: bytes) -> None:
    """A damaged key file is told at once."""
    with pytest.raises(WrongKey):
        SealKey(raw)


def test_a_seal_key_of_low_order_seals_nothing() -> None:
    """Its shared secret would be known to everybody."""
    with pytest.raises(WrongKey):
        SealKey(bytes(PUBLIC_BYTES)).new_pack_cipher(b"header")


def test_a_seed_of_another_length_is_refused() -> None:
    """An opening key has one length."""
    with pytest.raises(WrongKey):
        OpeningKey(bytes(95))


def test_the_writers_half_has_no_way_to_open() -> None:
    """Types carry capability."""
    assert not hasattr(SEAL, "unseal")
    assert not hasattr(SEAL, "seed")


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1))
def test_a_frame_opens_at_its_own_number_and_context(plain: bytes, number: int) -> None:
    """Number and context are both bound."""
    cipher = FrameCipher(bytes(32))
    sealed = cipher.seal(number, plain, b"context")
    assert cipher.open(number, sealed, b"context") == plain
    with pytest.raises(ObjectDamaged):
        cipher.open(number + 1, sealed, b"context")
    with pytest.raises(ObjectDamaged):
        cipher.open(number, sealed, b"other")
    for length in range(len(sealed)):
        with pytest.raises(ObjectDamaged):
            cipher.open(number, sealed[:length], b"context")
