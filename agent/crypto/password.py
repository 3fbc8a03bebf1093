"""Passwords of people, as verifiers: Argon2id (RFC 9106) in the PHC string format.

A verifier carries its own cost, so the cost can be raised later without asking anybody for a new
password.  An unknown user costs as much as a known one: there is a verifier for nobody.
"""

import os
import unicodedata

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from agent.crypto.keyslots import PassphraseCost
from agent.crypto.turn import ARGON2_TURN
from agent.errors import ConfigInvalid

LOGIN_COST = PassphraseCost(64 * 1024, 3, 4)  # RFC 9106 section 4, second choice: 0.1 to 0.2 s
MIN_CHARACTERS = 8  # NIST SP 800-63B-4 3.1.1.2, for a password beside a second factor
MAX_CHARACTERS = 256  # one request must not make the gate hash megabytes


class PasswordHasher:
    """Makes and checks verifiers.  Checking takes a tenth of a second: call it from a thread."""

    __slots__ = ("_cost", "_nobody")

    def __init__(self, cost: PassphraseCost = LOGIN_COST) -> None:
        """Take the cost of new verifiers."""
        self._cost = cost
        self._nobody = self._encoded(os.urandom(32))

    def verifier(self, password: str) -> str:
        """Return what is stored of `password`; raise ConfigInvalid if it is too short or long."""
        if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
            raise ConfigInvalid(
                f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters",
                hint="choose several words that do not belong together",
            )
        return self._encoded(_normalised(password))

    def verifies(self, password: str, verifier: str | None) -> bool:
        """Tell whether `verifier` was made of `password`; None, nobody's, is never, as slowly."""
        given = _normalised(password[: MAX_CHARACTERS + 1])
        try:
            with ARGON2_TURN:
                Argon2id.verify_phc_encoded(given, verifier or self._nobody)
        except (InvalidKey, ValueError):  # ValueError: a verifier that was cut short
            return False
        return verifier is not None

    def _encoded(self, material: bytes) -> str:
        kdf = Argon2id(
            salt=os.urandom(16),
            length=32,
            iterations=self._cost.iterations,
            lanes=self._cost.lanes,
            memory_cost=self._cost.memory_kib,
        )
        with ARGON2_TURN:
            return kdf.derive_phc_encoded(material)


def _normalised(password: str) -> bytes:
    """Return the bytes that count: the same password typed on another keyboard is the same."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
