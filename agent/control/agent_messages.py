"""What the agent is asked on its admin socket, and what it answers."""

from agent.control.messages import Message


class TakeSnapshot(Message, frozen=True):
    """Take a snapshot of every vault, or of the one named, now; `full` scans everything.

    `reread` reads every file again as well, and stores what the repository no longer has.
    """

    vault: str = ""
    full: bool = False
    reread: bool = False


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
