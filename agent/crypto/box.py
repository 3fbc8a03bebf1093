"""Sealing whole objects under a symmetric key: indexes, tables, snapshots, secrets.

A box is `salt (32) ‖ AES-256-GCM ciphertext ‖ tag (16)`.  Each box has a key of its own, derived
from the long-lived key and the random salt, so the nonce can be fixed at zero: a key seals
exactly one message (the construction of age's payload; NIST SP 800-38D 8.3 then never binds).
The context, bound as associated data, says what the object is and where it belongs.
"""

import os

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import ObjectDamaged

KEY_BYTES = 32
SALT_BYTES = 32
TAG_BYTES = 16
OVERHEAD_BYTES = SALT_BYTES + TAG_BYTES
_NONCE = bytes(12)


class BoxKey:
    """Seals and opens boxes; knows nothing of chunks or files."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        """Take a 32-byte key."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a box key has {KEY_BYTES} bytes, not {len(raw)}")
        self.raw = raw

    def seal(self, plaintext: bytes | bytearray | memoryview, context: bytes) -> bytes:
        """Return a box that holds `plaintext` and opens only with the same `context`."""
        salt = os.urandom(SALT_BYTES)
        return salt + self._cipher(salt).encrypt(_NONCE, plaintext, context)

    def open(self, box: bytes | memoryview, context: bytes, what: str) -> bytes:
        """Return the plaintext; raise ObjectDamaged naming `what` if any bit differs."""
        if len(box) < OVERHEAD_BYTES:
            raise ObjectDamaged(f"{what} is cut short")
        try:
            return self._cipher(bytes(box[:SALT_BYTES])).decrypt(_NONCE, box[SALT_BYTES:], context)
        except InvalidTag:
            raise ObjectDamaged(
                f"{what} does not open: it is damaged, or was sealed under another key",
                hint="run `vitrine verify` to see what else is damaged",
            ) from None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(blake3(salt, key=self.raw).digest())


class IndexKey(BoxKey):
    """Reads which chunks and snapshots exist: ids, sizes, times; no names, no content."""

    __slots__ = ()
