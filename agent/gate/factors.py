"""Whether somebody is who the kernel says: password and token, always with the same work.

The reason of a refusal is for the audit alone.  Whoever calls this raises one AccessDenied for
all of them, as for a refusal by the policy.
"""

import enum
from dataclasses import dataclass
from typing import Final

from agent.clock import Clock
from agent.control.gate_messages import Factors
from agent.crypto.password import PasswordHasher
from agent.crypto.totp import Token
from agent.gate.attempts import Attempt, Attempts
from agent.gate.users import User

PASSWORD: Final = "password"  # noqa: S105 - a factor's name in policies
TOKEN: Final = "token"  # noqa: S105


class Refusal(enum.StrEnum):
    """Why somebody was not believed: into the audit, never into an answer."""

    UNKNOWN_USER = "unknown-user"
    DISABLED = "disabled"
    LOCKED = "locked"
    RECORD_CHANGED = "record-changed"  # rights or token in the file are not those given
    WRONG_PASSWORD = "wrong-password"  # noqa: S105
    WRONG_CODE = "wrong-code"
    CODE_REUSED = "code-reused"


@dataclass(frozen=True, slots=True)
class Proven:
    """Who it is, and the factors that count in the policy."""

    user: User
    factors: frozenset[str]
    recovery_code: bool = (
        False  # a recovery code stood in for the token: tell them how many are left
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """Who it may have been, and why not."""

    user: User | None
    reason: Refusal


class FactorCheck:
    """Checks factors.  Blocks for a tenth of a second and two syncs: call it from a thread."""

    def __init__(self, attempts: Attempts, hasher: PasswordHasher, clock: Clock) -> None:
        """Take the limiter, what checks passwords, and the clock that codes follow."""
        self._attempts = attempts
        self._hasher = hasher
        self._clock = clock
        self._nobodys = Token.generate()

    def verify(self, uid: int, factors: Factors) -> Proven | Refused:
        """Return what the peer `uid` has proven with `factors`, or why it is refused.

        The attempt is on disk before this looks at a factor; a code that is accepted is on disk
        before this returns.  A code sent with a wrong password is not used up.
        """
        attempt = self._attempts.begin(uid)
        now_ns = self._clock.now_ns()
        password = self._hasher.verifies(factors.password, attempt.verifier)
        step = (attempt.token or self._nobodys).matching_step(factors.otp, now_ns)
        if reason := _not_admitted(attempt):
            return Refused(attempt.user, reason)
        user = attempt.user
        if user is None or not password:
            return Refused(user, Refusal.WRONG_PASSWORD)
        if step is None:
            return self._recovered(user, factors.otp, now_ns)
        if not self._attempts.accept_step(user.name, step, now_ns):
            return Refused(user, Refusal.CODE_REUSED)
        return Proven(user, frozenset({PASSWORD, TOKEN}))

    def _recovered(self, user: User, code: str, now_ns: int) -> Proven | Refused:
        if not self._attempts.accept_recovery_code(user.name, code, now_ns):
            return Refused(user, Refusal.WRONG_CODE)
        return Proven(user, frozenset({PASSWORD, TOKEN}), recovery_code=True)


def _not_admitted(attempt: Attempt) -> Refusal | None:
    """Return why this attempt could not have succeeded with any factor."""
    if attempt.user is None:
        return Refusal.UNKNOWN_USER
    if attempt.user.disabled:
        return Refusal.DISABLED
    if not attempt.admitted:
        return Refusal.LOCKED
    return Refusal.RECORD_CHANGED if attempt.token is None else None
