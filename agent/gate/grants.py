"""What a worker is handed at its start, and what is noted of what it serves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from agent.audit.records import Detail
from agent.control.messages import Message
from agent.control.session_messages import MoreSnapshots, WorkerGrant
from agent.model.snapshot import SnapshotInfo

SNAPSHOTS_A_MESSAGE = 4096  # of about 250 bytes: a quarter of the longest message
DIRECTORIES_A_RECORD = 30  # a record has at most 32 details


def grant_messages(
    grant: WorkerGrant, snapshots: Sequence[SnapshotInfo]
) -> tuple[WorkerGrant, list[Message]]:
    """Return the grant with the first snapshots, and the messages with the others."""
    encoded = [msgspec.msgpack.encode(info) for info in snapshots]
    parts = [
        tuple(encoded[at : at + SNAPSHOTS_A_MESSAGE])
        for at in range(0, len(encoded), SNAPSHOTS_A_MESSAGE)
    ]
    first, more = parts[:1], parts[1:]
    granted = msgspec.structs.replace(
        grant, snapshots=first[0] if first else (), more_snapshots=len(more)
    )
    return granted, [MoreSnapshots(part) for part in more]


def opened_details(session: str, opened: Counter[str]) -> Iterator[dict[str, Detail]]:
    """Yield the details of the records that say how many files of which directories were opened.

    Directories are named by keyed digests, so that a thousand slices of a study are one count.
    """
    counts = iter(sorted(opened.items()))
    while part := dict(islice(counts, DIRECTORIES_A_RECORD)):
        yield {"session": session, **part}
