"""Everything that one Vitrine process may say to another, as tagged values.

A connection carries requests one way and answers the other; each request is answered by any
number of `Progress` and then by exactly one final answer, an `Ok…` or a `Failed`.  MessagePack,
unknown fields ignored, unknown tags refused.
"""

import msgspec

from agent.model.ids import PackId, VaultId


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base: the tag is the class's name."""


# --- answers that any server gives --------------------------------------------------------------


class Failed(Message, frozen=True):
    """The request was not carried out: the error's class name, message and hint."""

    error: str
    message: str
    hint: str = ""


class Done(Message, frozen=True):
    """The request was carried out; there is nothing more to say."""


class Progress(Message, frozen=True):
    """How far a long request has come; `total` of 0 means unknown."""

    phase: str
    done: int
    total: int = 0
    unit: str = ""  # "files" or "bytes"


# --- to the agent (admin socket) ----------------------------------------------------------------


class TakeSnapshot(Message, frozen=True):
    """Take a snapshot of every vault, or of the one named, now; `full` scans everything."""

    vault: str = ""
    full: bool = False


class SnapshotTaken(Message, frozen=True):
    """What one vault's snapshot came to; `id` is empty where nothing had changed."""

    vault: str
    id: str
    sequence: int
    files: int
    bytes: int
    read_files: int
    added_bytes: int
    seconds: float
    incomplete: int


class SnapshotsTaken(Message, frozen=True):
    """Answer to TakeSnapshot."""

    taken: tuple[SnapshotTaken, ...]


class AskAgentStatus(Message, frozen=True):
    """How are the sources?"""


class SourceStatus(Message, frozen=True):
    """One source: state is watching, scanning, settling, failing or missing."""

    path: str
    vault: str
    state: str
    files: int
    bytes: int
    last_snapshot_ns: int  # 0: none yet
    dirty_since_ns: int  # 0: nothing waits
    problem: str = ""


class AgentStatus(Message, frozen=True):
    """Answer to AskAgentStatus."""

    sources: tuple[SourceStatus, ...]
    repository: str
    pid: int


# --- to the gate (user socket; the kernel says who calls) ---------------------------------------


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
    """Answer to AskSnapshots, oldest first."""

    snapshots: tuple[SnapshotLine, ...]


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


# --- between the gate and a session's worker (the socket pair the worker was started with) ------


class WorkerGrant(Message, frozen=True):
    """First message to a worker: all it may know.  Index files follow as descriptors."""

    session: str
    vault: VaultId
    vault_name: str
    id_key: bytes
    action: str  # unlock or restore
    repository: str
    snapshots: tuple[bytes, ...]  # encoded SnapshotInfo, verified, oldest first
    newest_only_until_ns: int  # `latest/` shows the newest snapshot not after this
    ends_ns: int
    idle_s: int
    cache_bytes: int
    index_files: int  # how many descriptors follow
    paths: tuple[bytes, ...] = ()  # restore: what to restore; empty for everything


class UnsealPack(Message, frozen=True):
    """May I have this pack's key?  `header` is the pack's fixed header with its sealed key."""

    pack: PackId
    header: bytes


class PackKey(Message, frozen=True):
    """Answer to UnsealPack."""

    key: bytes


class Opened(Message, frozen=True):
    """Files were opened: study or directory (as a keyed digest) → count.  No answer follows."""

    counts: dict[str, int]


class Activity(Message, frozen=True):
    """Somebody used the mount; moves the idle limit.  No answer follows."""


class WorkerReady(Message, frozen=True):
    """The mount answers; or the restore has begun."""


class WorkerProgress(Message, frozen=True):
    """How far a restore has come."""

    done_bytes: int
    total_bytes: int
    done_files: int


class WorkerResult(Message, frozen=True):
    """A restore ended."""

    files: int
    bytes: int
    failed: int


class Shut(Message, frozen=True):
    """To the worker: refuse, invalidate, then end."""


class Sealed(Message, frozen=True):
    """From the worker: every operation is refused and the kernel's caches are empty."""


# --- from the gate to the launcher (its socket; only the gate's uid is heard) -------------------


class StartMount(Message, frozen=True):
    """Mount for `uid` and start a worker; the worker's end of a socket pair comes along."""

    session: str
    vault_name: str
    uid: int
    gid: int
    repository: str


class Started(Message, frozen=True):
    """Answer to StartMount and StartRestore."""

    path: str
    worker_pid: int


class StartRestore(Message, frozen=True):
    """Start a restore worker on `target`, which `requester` must not be able to read."""

    session: str
    target: str
    requester_uid: int
    repository: str


class EndSession(Message, frozen=True):
    """Unmount what is mounted, and end the worker if it has not gone by itself."""

    session: str


class SessionGone(Message, frozen=True):
    """From the launcher, unasked: a worker has ended."""

    session: str
    status: int
