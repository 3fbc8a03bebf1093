"""What the gate is asked on its user socket, where the kernel says who calls."""

from agent.control.messages import Message


class Factors(Message, frozen=True):
    """What the caller proves with; passwords travel over the local socket only."""

    password: str = ""
    otp: str = ""


class Unlock(Message, frozen=True):
    """Open a read session on a vault; `at` is a time expression or snapshot prefix or empty."""

    vault: str
    factors: Factors
    at: str = ""
    purpose: str = ""


class Unlocked(Message, frozen=True):
    """Answer to Unlock: where the mount is and when it ends."""

    session: str
    vault: str
    path: str
    ends_ns: int
    idle_s: int
    snapshot: str  # hexadecimal id of the newest snapshot in view
    taken_ns: int
    files: int
    complete: bool


class Restore(Message, frozen=True):
    """Restore paths (raw bytes, relative to the snapshot's root) into `target`."""

    vault: str
    factors: Factors
    target: str
    paths: tuple[bytes, ...] = ()
    at: str = ""
    purpose: str = ""


class Restored(Message, frozen=True):
    """Answer to Restore: counts only; the requester sees no names."""

    session: str
    snapshot: str
    files: int
    bytes: int
    failed: int


class Lock(Message, frozen=True):
    """End one session, or all of the caller's."""

    session: str = ""


class Locked(Message, frozen=True):
    """Answer to Lock: the sessions that ended."""

    sessions: tuple[str, ...]


class AskSessions(Message, frozen=True):
    """Which sessions are open?  The caller's own; all of them for those who may see them."""


class SessionInfo(Message, frozen=True):
    """One open session."""

    session: str
    user: str
    vault: str
    action: str  # unlock or restore
    path: str
    started_ns: int
    ends_ns: int
    idle_ends_ns: int


class Sessions(Message, frozen=True):
    """Answer to AskSessions."""

    sessions: tuple[SessionInfo, ...]


class AskSnapshots(Message, frozen=True):
    """Which snapshots does a vault have?  Times and totals: needs a right on it, no factor."""

    vault: str = ""


class SnapshotLine(Message, frozen=True):
    """One snapshot in a listing."""

    id: str
    vault: str
    host: str
    sequence: int
    taken_ns: int
    files: int
    bytes: int
    added_bytes: int
    incomplete: int
    trigger: str


class Snapshots(Message, frozen=True):
    """Answer to AskSnapshots, oldest first; of very many the newest, and `older` are left out."""

    snapshots: tuple[SnapshotLine, ...]
    older: int = 0


class AskTimeline(Message, frozen=True):
    """What happened to a vault's files?  Counts: needs the right to list snapshots, no factor.

    `by` is snapshot, hour, day or month; empty: as few as a person can read.
    """

    vault: str = ""
    by: str = ""


class SignLine(Message, frozen=True):
    """A sign of an attack: how many, of how many."""

    kind: str
    count: int
    of: int


class TimelinePoint(Message, frozen=True):
    """One snapshot, or several folded into the last of them."""

    vault: str
    host: str
    id: str
    sequence: int
    snapshots: int
    first_ns: int
    taken_ns: int
    files: int
    bytes: int
    added: int
    changed: int
    removed: int
    moved: int
    new_bytes: int  # of the files added and changed
    stored_bytes: int
    counted: bool  # whether its writer counted what changed
    signs: tuple[SignLine, ...] = ()
    mark: str = ""  # "last clean", or "began"


class Attack(Message, frozen=True):
    """When signs began to show, and the last snapshot before; empty where none is left."""

    vault: str
    host: str
    began: str
    began_ns: int
    last_clean: str
    last_clean_ns: int


class Timeline(Message, frozen=True):
    """Answer to AskTimeline, oldest first; of very many the newest, and `older` are left out."""

    points: tuple[TimelinePoint, ...]
    attacks: tuple[Attack, ...]
    by: str
    older: int = 0


class AddUser(Message, frozen=True):
    """Add a user; the answer carries the token's secret once."""

    name: str
    uid: int
    roles: tuple[str, ...]
    department: str
    password: str
    factors: Factors  # of the administrator who asks


class UserAdded(Message, frozen=True):
    """Answer to AddUser: shown once, stored nowhere in this form."""

    name: str
    otpauth: str
    secret: str
    recovery_codes: tuple[str, ...] = ()


class DisableUser(Message, frozen=True):
    """Take a user's rights away and end their sessions."""

    name: str
    factors: Factors


class AskUsers(Message, frozen=True):
    """Who is known?"""


class UserLine(Message, frozen=True):
    """One user in a listing."""

    name: str
    uid: int
    roles: tuple[str, ...]
    department: str
    state: str  # active, disabled or locked
    last_used_ns: int


class Users(Message, frozen=True):
    """Answer to AskUsers."""

    users: tuple[UserLine, ...]


class AskAudit(Message, frozen=True):
    """Show the newest `count` records, or verify the chain."""

    count: int = 100
    verify: bool = False


class AuditPage(Message, frozen=True):
    """Answer to AskAudit: records as JSON texts, oldest first; `verified` counts those checked."""

    records: tuple[str, ...]
    verified: int = 0
    signed: int = 0


class AskGateStatus(Message, frozen=True):
    """How is the repository, and how many sessions are open?"""


class GateStatus(Message, frozen=True):
    """Answer to AskGateStatus."""

    sessions: int
    vaults: tuple[str, ...]
    repository: str
    pid: int
