"""Who is known to the gate: one record a person, kept for ever, usable until disabled.

A right that somebody wrote into the file opens no token: the sealed token is bound to the name,
the uid, the department and the roles it was given with.
"""

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.crypto import recoverycodes
from agent.crypto.box import BoxKey
from agent.crypto.naming import derive
from agent.crypto.password import PasswordHasher
from agent.crypto.totp import SECRET_BYTES, Token
from agent.errors import ConfigInvalid, NotFound, ObjectDamaged
from agent.gate.database import Database
from agent.gate.roles import Role

MAX_FAILURES: Final = 10  # consecutive; a code has a million values and three count at a time
_TOKENS: Final = "vitrine 2026-11 gate tokens"
_RECOVERY: Final = "vitrine 2026-11 gate recovery codes"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_DEPARTMENT: Final = re.compile(r"\w[\w .&/-]{0,63}")
_MAX_UID: Final = 2**32 - 2  # -1 is nobody's: the kernel's "no change"


@dataclass(frozen=True, slots=True)
class User:
    """One person, as the kernel (uid) and the policy (roles, department) know them."""

    name: str
    uid: int
    roles: frozenset[Role]
    department: str
    disabled: bool = False
    locked: bool = False
    last_used_ns: int = 0  # 0: never

    @property
    def state(self) -> str:
        """Return "active", "disabled" or "locked"."""
        if self.disabled:
            return "disabled"
        return "locked" if self.locked else "active"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A new user, with what is shown to them once."""

    user: User
    token: Token
    recovery_codes: tuple[str, ...]


class TokenKeys:
    """Seals tokens to their user's rights, and hashes recovery codes, under the gate's credential.

    Without the credential no token opens and no guess at a code can be tested.
    """

    def __init__(self, credential: bytes) -> None:
        """Take the gate's 32 bytes."""
        self._tokens = BoxKey(derive(_TOKENS, credential))
        self._recovery = derive(_RECOVERY, credential)

    def seal(self, token: Token, user: User) -> bytes:
        """Return what is stored of `user`'s token."""
        return self._tokens.seal(token.secret, _rights(user))

    def open(self, box: bytes, user: User) -> Token | None:
        """Return the token, or None where box or rights are not those that were sealed."""
        try:
            secret = self._tokens.open(box, _rights(user), "a token")
        except ObjectDamaged:
            return None
        return Token(secret) if len(secret) == SECRET_BYTES else None

    def recovery_digest(self, name: str, code: str) -> bytes:
        """Return what is stored of a recovery code."""
        return recoverycodes.digest(self._recovery, name, code)


class Users:
    """All users of one gate.  Methods block for a disk sync: call them from threads."""

    def __init__(self, database: Database, keys: TokenKeys, hasher: PasswordHasher) -> None:
        """Take the open database, and what seals tokens and hashes passwords."""
        self._database = database
        self._keys = keys
        self._hasher = hasher

    def add(
        self, name: str, uid: int, roles: Iterable[str], department: str, password: str
    ) -> Enrolled:
        """Add a user; raise ConfigInvalid for a name or uid that is taken, or a bad value."""
        user = _checked(name, uid, roles, department)
        verifier, token = self._hasher.verifier(password), Token.generate()
        codes = recoverycodes.generate()
        row = (name, uid, department, verifier, self._keys.seal(token, user))
        digests = [(name, self._keys.recovery_digest(name, code)) for code in codes]
        try:
            with self._database.transaction() as db:
                db.execute(_INSERT, row)
                db.executemany("INSERT INTO roles VALUES (?, ?)", [(name, r) for r in user.roles])
                db.executemany("INSERT INTO recovery_codes VALUES (?, ?)", digests)
        except sqlite3.IntegrityError:
            raise ConfigInvalid(
                f"there is a user {name!r} already, or an active one with uid {uid}",
                hint="see `vitrine user list`; a name is never given twice",
            ) from None
        return Enrolled(user, token, codes)

    def all(self) -> tuple[User, ...]:
        """Return every user, by name."""
        with self._database.transaction() as db:
            return tuple(user_of(row) for row in db.execute(f"{SELECT_USER} ORDER BY name"))

    def by_uid(self, uid: int) -> User | None:
        """Return the user with this uid: the active one, else a disabled one, else None."""
        with self._database.transaction() as db:
            row = db.execute(SELECT_BY_UID, (uid,)).fetchone()
        return None if row is None else user_of(row)

    def by_name(self, name: str) -> User:
        """Return a user; raise NotFound."""
        with self._database.transaction() as db:
            row = db.execute(f"{SELECT_USER} WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise _unknown(name)
        return user_of(row)

    def disable(self, name: str) -> User:
        """Take every right away, for good, with token and recovery codes; raise NotFound."""
        with self._database.transaction() as db:
            db.execute("UPDATE users SET disabled = 1, token = x'' WHERE name = ?", (name,))
            db.execute("DELETE FROM recovery_codes WHERE user = ?", (name,))
        return self.by_name(name)

    def unlock(self, name: str) -> User:
        """Forget a user's failures; raise NotFound."""
        with self._database.transaction() as db:
            db.execute("UPDATE users SET failures = 0 WHERE name = ?", (name,))
        return self.by_name(name)


SELECT_USER: Final = (
    "SELECT *, (SELECT group_concat(role) FROM roles WHERE user = users.name) AS roles FROM users"
)
SELECT_BY_UID: Final = f"{SELECT_USER} WHERE uid = ? ORDER BY disabled, last_used_ns DESC LIMIT 1"
_INSERT: Final = "INSERT INTO users (name, uid, department, verifier, token) VALUES (?, ?, ?, ?, ?)"


def user_of(row: sqlite3.Row) -> User:
    """Return the user in a row of SELECT_USER; roles that no version knows give no right."""
    roles = frozenset((row["roles"] or "").split(","))
    return User(
        name=row["name"],
        uid=row["uid"],
        roles=frozenset(role for role in Role if role in roles),
        department=row["department"],
        disabled=bool(row["disabled"]),
        locked=row["failures"] >= MAX_FAILURES,
        last_used_ns=row["last_used_ns"],
    )


def _rights(user: User) -> bytes:
    """Return what a sealed token is bound to."""
    return msgspec.msgpack.encode((user.name, user.uid, user.department, sorted(user.roles)))


def _checked(name: str, uid: int, roles: Iterable[str], department: str) -> User:
    known = frozenset(Role)
    asked = frozenset(roles)
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(
            "that is no name for a user",
            hint="take the login name: small letters, digits, `_`, `.` and `-`, at most 32",
        )
    if not 0 <= uid <= _MAX_UID:
        raise ConfigInvalid(f"{uid} is no uid")
    if not asked or asked - known:
        raise ConfigInvalid(
            "a user has one role or more, of those there are",
            hint=f"roles: {', '.join(sorted(known))}",
        )
    if not _DEPARTMENT.fullmatch(department):
        raise ConfigInvalid("a department has 1 to 64 letters, digits, spaces, or any of . & / -")
    return User(name, uid, frozenset(Role(role) for role in asked), department)


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no user {name[:32]!r}", hint="see `vitrine user list`")
