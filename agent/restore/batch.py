"""Files that are written together: how many, and in which order they are best read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import ChunkLocation, FrameLocation
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
    """Files whose frames fit into memory together, each with the places of its chunks."""

    jobs: list[tuple[Job, Sequence[ChunkLocation]]]
    frames: dict[FrameLocation, None]  # a set that keeps its order


def in_pack_order(reader: Chunks, jobs: list[Job]) -> Iterator[Slice]:
    """Yield the files as their bytes lie in the packs, with at most WINDOW_BYTES of frames each.

    What a file needs is known where its extents are few; another is written as it comes.
    """
    placed = [(job, _places(reader, job.planned.entry)) for job in jobs]
    placed.sort(key=_first)
    current, held = Slice([], {}), 0
    for job, places in placed:
        frames = dict.fromkeys(place.frame for place in places)
        cost = sum(frame.plain for frame in frames if frame not in current.frames)
        if current.jobs and held + cost > WINDOW_BYTES:
            yield current
            current, held, cost = Slice([], {}), 0, sum(frame.plain for frame in frames)
        current.jobs.append((job, places))
        current.frames.update(frames)
        held += cost
    yield current


def _first(placed: tuple[Job, Sequence[ChunkLocation]]) -> tuple[bytes, int]:
    """Return pack and offset of what a file begins with."""
    _, places = placed
    return (places[0].frame.pack, places[0].frame.offset) if places else (b"", 0)


def _places(reader: Chunks, entry: Entry) -> Sequence[ChunkLocation]:
    """Return where the chunks of a file lie, or nothing where that is not known at once."""
    if entry.depth or entry.size > WINDOW_BYTES:
        return ()
    try:
        chunks = [extent.id for extent in unpack_extents(entry.content) if not extent.is_hole]
        return [reader.locate(id_) for id_ in chunks]
    except (ObjectMissing, ObjectDamaged):
        return ()  # writing it will say what is wrong
