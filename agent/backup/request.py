"""What a run is asked for, and what it came to."""

from collections.abc import Mapping
from typing import NamedTuple

from agent.backup.waiting import DirtyNames
from agent.model.snapshot import SnapshotInfo, Trigger
from agent.repository.writer import Tip


class Counts(NamedTuple):
    """How far a run has come."""

    looked_at: int = 0
    files: int = 0
    bytes: int = 0


class Request(NamedTuple):
    """What a run is to look at, and why."""

    trigger: Trigger = Trigger.REQUEST
    full: bool = True
    # source path → what may have changed, None for all of it; sources not named have not changed
    dirty: Mapping[bytes, DirtyNames | None] = {}
    force: bool = False  # a snapshot even if nothing changed
    reread: bool = False  # forget what is known to be stored: read, and compare with what is


class SourceOutcome(NamedTuple):
    """How a source stands after a run."""

    files: int
    bytes: int
    missing: bool
    changed_while_read: int
    unreadable: int
    problem: str


class Outcome(NamedTuple):
    """What a run came to; `taken` is None where nothing had changed."""

    taken: SnapshotInfo | None
    last: Tip
    last_taken_ns: int  # 0: no snapshot yet
    counts: Counts
    added_bytes: int
    seconds: float
    sources: Mapping[bytes, SourceOutcome]
