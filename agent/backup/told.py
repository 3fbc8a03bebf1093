"""How a run is told to whoever asked for it: how far it has come, and what it came to."""

from agent.backup.request import Counts, Outcome
from agent.control.agent_messages import SnapshotTaken
from agent.control.messages import Progress


def snapshot_taken(vault: str, outcome: Outcome) -> SnapshotTaken:
    """Return what a run came to, as it is told."""
    sources = outcome.sources.values()
    return SnapshotTaken(
        vault=vault,
        id=outcome.taken.id.hex() if outcome.taken else "",
        sequence=outcome.last.sequence,
        files=sum(source.files for source in sources),
        bytes=sum(source.bytes for source in sources),
        read_files=outcome.counts.files,
        added_bytes=outcome.added_bytes,
        seconds=outcome.seconds,
        incomplete=sum(
            source.missing + source.changed_while_read + source.unreadable for source in sources
        ),
    )


def progress(vault: str, counts: Counts) -> Progress:
    """Return how far a run has come, as it is told."""
    return Progress(f"{vault}: {counts.files:,} files read", counts.looked_at, 0, "files")
