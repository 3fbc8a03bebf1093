"""What gate, launcher and a session's worker say to each other.

Gate and worker speak over the socket pair that the worker was started with; gate and launcher over
the launcher's socket, where only the gate's uid is heard.
"""

from agent.control.messages import Message
from agent.model.ids import PackId, VaultId


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
    more_snapshots: int = 0  # how many MoreSnapshots follow, before the descriptors


class MoreSnapshots(Message, frozen=True):
    """Further snapshots of a grant, for a message has a limit and a chain has none."""

    snapshots: tuple[bytes, ...]


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


class Serving(Message, frozen=True):
    """The session's worker answers the kernel: the launcher may now tune the mount."""

    session: str


class EndSession(Message, frozen=True):
    """Unmount what is mounted, and end the worker if it has not gone by itself."""

    session: str


class SessionGone(Message, frozen=True):
    """From the launcher, unasked: a worker has ended."""

    session: str
    status: int
