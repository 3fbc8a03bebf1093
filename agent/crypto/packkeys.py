"""Pack keys: sealed by anyone who may write, unsealed only with the vault's opening key.

Each pack has a random AES-256-GCM key of its own, sealed with hybrid HPKE (RFC 9180; KEM
MLKEM768-X25519, so that what is stolen today stays shut to tomorrow's quantum computer) with the
pack's fixed header as context.  Within a pack the frame's number is the nonce: it is used once
because a number is given once, and the key is never used for another pack.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from agent.errors import ObjectDamaged, StoreUnavailable, WrongKey
from agent.fresh import unfilled

PACK_KEY_BYTES = 32
TAG_BYTES = 16
SEED_BYTES = 64 + 32  # ML-KEM-768 seed (FIPS 203 7.1), then the X25519 private key
PUBLIC_BYTES = 1184 + 32
SEALED_KEY_BYTES = 1088 + 32 + PACK_KEY_BYTES + TAG_BYTES  # encapsulations, key, tag: 1,168

_RANDOM = Path("/dev/urandom")  # what os.urandom returns could not be wiped
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealKey:
    """The public half: makes pack keys that only the opening key can bring back."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the 1,216 public bytes: ML-KEM-768 (1,184), X25519 (32)."""
        if len(raw) != PUBLIC_BYTES:
            raise WrongKey(f"a seal key has {PUBLIC_BYTES} bytes, not {len(raw)}")
        self.raw = raw
        try:
            self._key = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(raw[:1184]),
                X25519PublicKey.from_public_bytes(raw[1184:]),
            )
        except ValueError:
            raise WrongKey("a seal key is no point of its groups: it was damaged") from None

    def new_pack_cipher(self, context: bytes) -> tuple["FrameCipher", bytes]:
        """Return what seals a new pack's frames, and the pack's key sealed, bound to `context`.

        The key itself is wiped here; the cipher holds its schedule until it is dropped, and
        OpenSSL wipes that: an agent that has finished a pack can open it no more.
        """
        key = bytearray(PACK_KEY_BYTES)
        with _RANDOM.open("rb", buffering=0) as source:
            if source.readinto(key) != PACK_KEY_BYTES:
                raise StoreUnavailable("/dev/urandom gave less than was asked for")
        try:
            return FrameCipher(key), _SUITE.encrypt(key, self._key, info=context)
        except ValueError:  # a point of low order: RFC 9180 7.1.4 refuses its shared secret
            raise WrongKey("a seal key is of low order: it was damaged or forged") from None
        finally:
            key[:] = bytes(PACK_KEY_BYTES)


class OpeningKey:
    """The private half, for one epoch: unseals pack keys, and so reads everything."""

    __slots__ = ("_key", "seed")

    def __init__(self, seed: bytes) -> None:
        """Take the 96-byte seed."""
        if len(seed) != SEED_BYTES:
            raise WrongKey(f"an opening key has {SEED_BYTES} bytes, not {len(seed)}")
        self.seed = seed
        self._key = MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
            X25519PrivateKey.from_private_bytes(seed[64:]),
        )

    @classmethod
    def generate(cls) -> "OpeningKey":
        """Return a new random opening key."""
        return cls(os.urandom(SEED_BYTES))

    def seal_key(self) -> SealKey:
        """Return the public half."""
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.seed[:64]).public_key()
        x25519 = X25519PrivateKey.from_private_bytes(self.seed[64:]).public_key()
        return SealKey(mlkem.public_bytes_raw() + x25519.public_bytes_raw())

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Return the pack key in `sealed`; raise ObjectDamaged if it is not ours or was changed."""
        try:
            key = _SUITE.decrypt(sealed, self._key, info=context)
        except (InvalidTag, ValueError):
            raise ObjectDamaged("a pack's sealed key does not open with this vault's key") from None
        if len(key) != PACK_KEY_BYTES:
            raise ObjectDamaged("a pack's sealed key holds something else")
        return key


class FrameCipher:
    """Seals and opens the frames of one pack."""

    __slots__ = ("_aead",)

    def __init__(self, pack_key: bytes | bytearray) -> None:
        """Take the pack's own 32-byte key; the caller may wipe it afterwards."""
        self._aead = AESGCM(pack_key)

    def seal(self, number: int, plain: bytes | bytearray | memoryview, context: bytes) -> bytes:
        """Return `plain` sealed as frame `number`; a number must be used once."""
        sealed = bytearray(len(plain) + TAG_BYTES)
        self.seal_into(number, plain, context, sealed)
        return bytes(sealed)

    def seal_into(
        self,
        number: int,
        plain: bytes | bytearray | memoryview,
        context: bytes,
        into: bytearray | memoryview,
    ) -> None:
        """Write the sealed frame to `into`, which is exactly TAG_BYTES longer than `plain`."""
        self._aead.encrypt_into(number.to_bytes(12, "big"), plain, context, into)

    def open(self, number: int, sealed: bytes | memoryview, context: bytes) -> bytearray:
        """Return the plaintext of frame `number`; raise ObjectDamaged if any bit differs."""
        if len(sealed) < TAG_BYTES:
            raise ObjectDamaged("a frame is cut short")
        plain = unfilled(len(sealed) - TAG_BYTES)
        try:
            self._aead.decrypt_into(number.to_bytes(12, "big"), sealed, context, plain)
        except InvalidTag:
            raise ObjectDamaged("a frame does not open: damaged, or not of this pack") from None
        return plain
