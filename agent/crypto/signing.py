"""Ed25519 (RFC 8032): who wrote a snapshot, who enrolled a writer, who kept a record.

Every signature covers a purpose first, so that a signature made for one thing is no signature
for another.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.errors import WrongKey

PRIVATE_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class VerifyKey:
    """The public half."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 public bytes."""
        if len(raw) != PUBLIC_BYTES:
            raise WrongKey(f"a verify key has {PUBLIC_BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    def verifies(self, signature: bytes, purpose: bytes, message: bytes) -> bool:
        """Tell whether `signature` was made over this purpose and message."""
        try:
            self._key.verify(signature, _framed(purpose, message))
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The private half: a host's, a vault authority's, or an audit chain's."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 private bytes."""
        if len(raw) != PRIVATE_BYTES:
            raise WrongKey(f"a signing key has {PRIVATE_BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)

    @classmethod
    def generate(cls) -> "SigningKey":
        """Return a new random key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def verify_key(self) -> VerifyKey:
        """Return the public half."""
        return VerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, purpose: bytes, message: bytes) -> bytes:
        """Return the 64-byte signature over purpose and message."""
        return self._key.sign(_framed(purpose, message))


def _framed(purpose: bytes, message: bytes) -> bytes:
    return len(purpose).to_bytes(4, "little") + purpose + message
