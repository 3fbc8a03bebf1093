"""Boxes: open with key and context, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.box import OVERHEAD_BYTES, BoxKey
from agent.errors import ObjectDamaged

KEY = BoxKey(b"k" * 32)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_a_box_opens_to_what_was_sealed(plain: bytes, context: bytes) -> None:
    """Sealing and opening are inverse, at a fixed overhead."""
    box = KEY.seal(plain, context)
    assert len(box) == len(plain) + OVERHEAD_BYTES
    assert KEY.open(box, context, "it") == plain


def test_no_two_boxes_are_alike() -> None:
    """Every box has a salt of its own: equal objects do not show."""
    assert KEY.seal(b"same", b"") != KEY.seal(b"same", b"")


def test_every_flipped_byte_is_noticed_and_the_object_named() -> None:
    """Salt, ciphertext and tag are all covered."""
    box = KEY.seal(b"content", b"here")
    for position in range(len(box)):
        damaged = bytearray(box)
        damaged[position] ^= 1
        with pytest.raises(ObjectDamaged, match="index/7"):
            KEY.open(bytes(damaged), b"here", "index/7")


def test_every_truncation_is_noticed() -> None:
    """No prefix of a box opens."""
    box = KEY.seal(b"content", b"here")
    for length in range(len(box)):
        with pytest.raises(ObjectDamaged):
            KEY.open(box[:length], b"here", "it")


def test_another_context_or_key_does_not_open_it() -> None:
    """A box that was moved elsewhere stays shut."""
    box = KEY.seal(b"content", b"here")
    with pytest.raises(ObjectDamaged):
        KEY.open(box, b"there", "it")
    with pytest.raises(ObjectDamaged):
        BoxKey(b"x" * 32).open(box, b"here", "it")


def test_a_key_of_another_length_is_refused() -> None:
    """A wrong key is a bug, found where it is made."""
    with pytest.raises(ValueError, match="32 bytes"):
        BoxKey(b"short")
