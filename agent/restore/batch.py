"""Files that are written together: how many, and in which order they are best read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import ChunkLocation
from agent.model.tree import Entry, unpack_extents
from agent.restore.content import WINDOW_BYTES, Chunks
from agent.restore.plan import Planned
from agent.restore.target import Directory

MAX_BYTES = WINDOW_BYTES
MAX_FILES = 256
MAX_DIRECTORIES = 48  # each holds a descriptor: with those of a deep tree, under 1,024


class Job(NamedTuple):
    """A file to write."""

    directory: Directory
    planned: Planned


@dataclass(slots=True, eq=False)
class Batch:
    """Some files, whose directories stay open until `release`."""

    jobs: list[Job] = field(default_factory=list)
    _directories: set[int] = field(default_factory=set)
    _bytes: int = 0

    def add(self, job: Job) -> None:
        """Take one more file."""
        job.directory.hold()
        self.jobs.append(job)
        self._directories.add(id(job.directory))
        self._bytes += job.planned.entry.size

    def takes(self, entry: Entry) -> bool:
        """Tell whether one more file fits; an empty batch takes any."""
        return not self.jobs or (
            self._bytes + entry.size <= MAX_BYTES
            and len(self.jobs) < MAX_FILES
            and len(self._directories) < MAX_DIRECTORIES
        )


class Slice(NamedTuple):
    """Files whose frames fit into memory together, and the chunks they need."""

    jobs: list[Job]
    chunks: list[bytes]


def in_pack_order(reader: Chunks, jobs: list[Job]) -> Iterator[Slice]:
    """Yield the files as their bytes lie in the packs, with at most WINDOW_BYTES of frames each.

    What a file needs is known where its extents are few; another is written as it comes.
    """
    placed = sorted((_place(reader, job) for job in jobs), key=lambda place: place.first)
    current, frames, held = Slice([], []), set[tuple[bytes, int]](), 0
    for place in placed:
        new = {at.frame[:2]: at.frame.plain for at in place.locations}
        cost = sum(plain for key, plain in new.items() if key not in frames)
        if current.jobs and held + cost > WINDOW_BYTES:
            yield current
            current, frames, held, cost = Slice([], []), set(), 0, sum(new.values())
        current.jobs.append(place.job)
        current.chunks.extend(place.chunks)
        frames.update(new)
        held += cost
    yield current


class _Place(NamedTuple):
    first: tuple[bytes, int]  # pack and offset
    job: Job
    chunks: list[bytes]
    locations: list[ChunkLocation]


def _place(reader: Chunks, job: Job) -> _Place:
    entry = job.planned.entry
    if entry.depth or entry.size > WINDOW_BYTES:
        return _Place((b"", 0), job, [], [])
    try:
        chunks = [extent.id for extent in unpack_extents(entry.content) if not extent.is_hole]
        locations = [reader.locate(id_) for id_ in chunks]
    except (ObjectMissing, ObjectDamaged):
        return _Place((b"", 0), job, [], [])  # writing it will say what is wrong
    first = (locations[0].frame.pack, locations[0].frame.offset) if locations else (b"", 0)
    return _Place(first, job, chunks, locations)
