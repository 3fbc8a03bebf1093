"""Who has what open, until when: the table of live sessions.  Pure: it starts and ends nothing.

Two limits: an absolute one, and an idle one that every use moves.  Both run on the monotonic
clock, so that setting the wall clock back lengthens nothing; wall times are for showing only.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from agent.clock import Clock
from agent.errors import NotFound, SessionExpired

_ID_BYTES: Final = 8
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """One person's open view of one vault, or one restore."""

    id: str  # 16 hexadecimal digits
    user: str
    uid: int
    vault: str
    action: str  # "unlock" or "restore"
    started_ns: int
    ends_ns: int  # wall clock, for showing
    ends_at: float  # monotonic, what counts
    idle_s: int


@dataclass(frozen=True, slots=True)
class Due:
    """A session whose time is over, and which limit it met: "absolute" or "idle"."""

    session: Session
    limit: str


class SessionTable:
    """All live sessions.  For one task or under the caller's lock; nothing here waits."""

    def __init__(self, clock: Clock) -> None:
        """Start with no session."""
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._idle_at: dict[str, float] = {}

    def add(
        self, user: str, uid: int, vault: str, action: str, *, limit_s: int, idle_s: int
    ) -> Session:
        """Return a new session that lasts `limit_s`, or until nobody uses it for `idle_s`."""
        if limit_s <= 0 or idle_s <= 0:
            raise ValueError("a session has limits above zero")
        now, now_ns = self._clock.monotonic(), self._clock.now_ns()
        session = Session(
            id=secrets.token_hex(_ID_BYTES),
            user=user,
            uid=uid,
            vault=vault,
            action=action,
            started_ns=now_ns,
            ends_ns=now_ns + limit_s * _NS,
            ends_at=now + limit_s,
            idle_s=idle_s,
        )
        self._sessions[session.id] = session
        self._idle_at[session.id] = now + idle_s
        return session

    def live(self, session_id: str) -> Session:
        """Return a session that may still read; raise SessionExpired for any other."""
        session = self._sessions.get(session_id)
        if session is None or self._limit_met(session, self._clock.monotonic()):
            raise SessionExpired("the session ended", hint="unlock again")
        return session

    def touch(self, session_id: str) -> None:
        """Note that the session is in use; raise SessionExpired if it came too late."""
        session = self.live(session_id)
        self._idle_at[session_id] = self._clock.monotonic() + session.idle_s

    def due(self) -> tuple[Due, ...]:
        """Return the sessions to end now, in the order they began; they stay until `end`."""
        now = self._clock.monotonic()
        found = ((session, self._limit_met(session, now)) for session in self._sessions.values())
        return tuple(Due(session, limit) for session, limit in found if limit)

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `due` may change, or None with no session."""
        return min(
            (min(s.ends_at, self._idle_at[s.id]) for s in self._sessions.values()), default=None
        )

    def end(self, session_id: str) -> Session:
        """Take a session from the table; raise NotFound where there is none."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            raise NotFound(f"there is no session {session_id!r}", hint="see `vitrine sessions`")
        del self._idle_at[session_id]
        return session

    def all(self, uid: int | None = None) -> tuple[Session, ...]:
        """Return the sessions of `uid`, or of everybody, in the order they began."""
        return tuple(s for s in self._sessions.values() if uid is None or s.uid == uid)

    def idle_ends_ns(self, session_id: str) -> int:
        """Return the wall time at which the session ends if nobody uses it, for showing."""
        left = self._idle_at[session_id] - self._clock.monotonic()
        return min(self._clock.now_ns() + int(left * _NS), self._sessions[session_id].ends_ns)

    def _limit_met(self, session: Session, now: float) -> str:
        if now >= session.ends_at:
            return "absolute"
        return "idle" if now >= self._idle_at[session.id] else ""
