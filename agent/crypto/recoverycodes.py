"""Recovery codes: what stands in for a lost token, once each, printed once.

A code has 50 random bits in Crockford's base 32 (no I, L, O, U).  What is stored is a keyed hash
under a key derived from the gate's credential: a copied database alone can test no guess.
"""

import secrets
import unicodedata
from typing import Final

from blake3 import blake3

CODES: Final = 8
KEY_BYTES: Final = 32
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_HALF: Final = 5
_READ_AS: Final = str.maketrans("ILO", "110", "- \t\r\n")


def generate() -> tuple[str, ...]:
    """Return eight new codes as shown to people: `XXXXX-XXXXX`."""
    return tuple(f"{_half()}-{_half()}" for _ in range(CODES))


def digest(key: bytes, user: str, code: str) -> bytes:
    """Return what is stored of `user`'s `code` (32 bytes), however it was typed."""
    typed = unicodedata.normalize("NFKC", code[:32]).upper().translate(_READ_AS)
    name = user.encode("utf-8", "surrogatepass")
    message = len(name).to_bytes(4, "little") + name + typed.encode("utf-8", "surrogatepass")
    return blake3(message, key=key).digest()


def _half() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_HALF))
