"""How often somebody failed, and what was accepted once: all on disk before it counts.

An attempt is counted before its factors are looked at, so ten guesses are ten however many run at
once, and neither a restart nor a crash takes one back.
"""

from dataclasses import dataclass

from agent.crypto.totp import Token
from agent.gate.database import Database
from agent.gate.users import MAX_FAILURES, SELECT_BY_UID, TokenKeys, User, user_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One counted attempt: who it is, whether it may succeed, and what to compare with."""

    user: User | None
    admitted: bool  # False: unknown, disabled or locked before
    verifier: str | None
    token: Token | None  # None: nobody's, or the record was changed behind the gate's back


class Attempts:
    """The limiter.  Methods block for a disk sync: call them from threads."""

    def __init__(self, database: Database, keys: TokenKeys) -> None:
        """Take the open database, and what opens tokens."""
        self._database = database
        self._keys = keys

    def begin(self, uid: int) -> Attempt:
        """Count an attempt of `uid`, durably, as a failure until something is accepted.

        Writes and syncs alike for nobody and for those who are locked or disabled.
        """
        with self._database.transaction() as db:
            row = db.execute(SELECT_BY_UID, (uid,)).fetchone()
            counted = db.execute(
                "UPDATE users SET failures = failures + 1"
                " WHERE name = ? AND disabled = 0 AND failures < ?",
                (None if row is None else row["name"], MAX_FAILURES),
            )
            admitted = counted.rowcount == 1
            if not admitted:
                db.execute("UPDATE refused_unseen SET attempts = attempts + 1")
        if row is None:
            return Attempt(None, admitted=False, verifier=None, token=None)
        user = user_of(row)
        return Attempt(user, admitted, row["verifier"], self._keys.open(row["token"], user))

    def accept_step(self, name: str, step: int, now_ns: int) -> bool:
        """Accept the code of a time step, once and in order, and forget the failures.

        Returns False, changing nothing, where that step or a later one was accepted before, by
        whichever process, or the user is disabled by now.
        """
        with self._database.transaction() as db:
            changed = db.execute(
                "UPDATE users SET last_step = ?, failures = 0, last_used_ns = ?"
                " WHERE name = ? AND last_step < ? AND disabled = 0",
                (step, now_ns, name, step),
            )
        return changed.rowcount == 1

    def accept_recovery_code(self, name: str, code: str, now_ns: int) -> bool:
        """Accept a recovery code, which is then gone, and forget the failures; else False."""
        digest = self._keys.recovery_digest(name, code)
        with self._database.transaction() as db:
            taken = db.execute(
                "DELETE FROM recovery_codes WHERE user = ? AND digest = ?", (name, digest)
            )
            if taken.rowcount == 1:
                db.execute(
                    "UPDATE users SET failures = 0, last_used_ns = ? WHERE name = ?",
                    (now_ns, name),
                )
        return taken.rowcount == 1

    def recovery_codes_left(self, name: str) -> int:
        """Return how many recovery codes a user still has."""
        with self._database.transaction() as db:
            row = db.execute("SELECT count(*) FROM recovery_codes WHERE user = ?", (name,))
            return int(row.fetchone()[0])
