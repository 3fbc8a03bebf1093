"""Time-based one-time passwords (RFC 6238), as every authenticator app expects them.

SHA-1, six digits, thirty seconds: what apps accept, whatever the URI asks for.  This module finds
which time step a code belongs to; that a step counts once is the business of who stores it.
"""

import os
import unicodedata
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

SECRET_BYTES: Final = 20  # RFC 4226 section 4, R6: the length of the HMAC's output
DIGITS: Final = 6
STEP_S: Final = 30
WINDOW_STEPS: Final = 1  # RFC 6238 section 5.2: one step for the clocks' difference, no more
_NS: Final = 1_000_000_000


class Token:
    """What a user's authenticator app holds."""

    __slots__ = ("_totp", "secret")

    def __init__(self, secret: bytes) -> None:
        """Take the shared secret, 20 bytes."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a token's secret has {SECRET_BYTES} bytes, not {len(secret)}")
        self.secret = secret
        self._totp = TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303 - RFC 6238; HMAC-SHA-1 holds

    @classmethod
    def generate(cls) -> "Token":
        """Return a new random token."""
        return cls(os.urandom(SECRET_BYTES))

    def code(self, now_ns: int) -> str:
        """Return the code that an app shows at `now_ns`."""
        return self._totp.generate(now_ns // _NS).decode()

    def matching_step(self, code: str, now_ns: int) -> int | None:
        """Return the number of the time step that `code` belongs to, or None.

        Looks at the present step and one to each side.  Every step is computed and compared in
        constant time, whether an earlier one matched or not.
        """
        given = normalised(code).encode()
        present = now_ns // (_NS * STEP_S)
        found = None
        for step in range(max(present - WINDOW_STEPS, 0), present + WINDOW_STEPS + 1):
            if compare_digest(self._totp.generate(step * STEP_S), given):
                found = step
        return found

    def otpauth_uri(self, account: str, issuer: str) -> str:
        """Return the URI to show as a QR code: it holds the secret."""
        return self._totp.get_provisioning_uri(account, issuer)


def normalised(code: str) -> str:
    """Return `code` as ASCII digits without the spaces and dashes people type; else empty."""
    digits = "".join(c for c in unicodedata.normalize("NFKC", code[:32]) if c not in "- \t\r\n")
    return digits if digits.isascii() and digits.isdigit() and len(digits) == DIGITS else ""
