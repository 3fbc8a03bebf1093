"""Signatures: RFC 8032's arithmetic, and a purpose that keeps them apart."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import WrongKey

# RFC 8032 7.1, test 1: an empty message
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
    "d25bf5f0595bbe24655141438e7a100b"
)


def test_the_key_and_signature_of_rfc_8032_come_out() -> None:
    """The library under us computes Ed25519 as published."""
    assert SigningKey(SECRET).verify_key().raw == PUBLIC
    assert Ed25519PrivateKey.from_private_bytes(SECRET).sign(b"") == SIGNATURE


def test_a_signature_covers_length_purpose_and_message() -> None:
    """docs/format.md 2: u32 length, purpose, message."""
    ours = SigningKey(SECRET).sign(b"snap", b"message")
    theirs = Ed25519PrivateKey.from_private_bytes(SECRET).sign(b"\4\0\0\0snapmessage")
    assert ours == theirs


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    """Moving the border between purpose and message does not help."""
    key = SigningKey.generate()
    signature = key.sign(b"purpose", b"message")
    verify = key.verify_key()
    assert verify.verifies(signature, b"purpose", b"message")
    assert not verify.verifies(signature, b"purposem", b"essage")
    assert not verify.verifies(signature, b"other", b"message")
    assert not verify.verifies(signature, b"purpose", b"messagf")
    assert not SigningKey.generate().verify_key().verifies(signature, b"purpose", b"message")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), b"\xff" * 64, bytes(65)])
def test_nonsense_is_no_signature_and_no_crash(signature: bytes) -> None:
    """A hostile object carries any bytes as its signature."""
    assert not SigningKey(SECRET).verify_key().verifies(signature, b"p", b"m")


def test_keys_of_other_lengths_are_refused() -> None:
    """WrongKey, by name."""
    with pytest.raises(WrongKey):
        SigningKey(bytes(31))
    with pytest.raises(WrongKey):
        VerifyKey(bytes(33))
    assert not VerifyKey(b"\xff" * 32).verifies(bytes(64), b"p", b"m")
