"""Files that are written together: how many, and in which order they are best read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import FrameLocation
from agent.model.tree import Entry
from agent.restore.pieces import (
    WINDOW_BYTES,
    Chunks,
    Piece,
    has_frame_of_its_own,
    pieces_of,
)
from agent.restore.plan import Planned
from agent.restore.target import Directory, Opened

MAX_BYTES = WINDOW_BYTES
MAX_FILES = 256
MAX_DIRECTORIES = 48  # each holds a descriptor: with those of a deep tree, under 1,024


class Job(NamedTuple):
    """A file to write."""

    directory: Directory
    planned: Planned


class Item(NamedTuple):
    """A file to write, as its writer sees it."""

    at: Opened
    source: int  # which entry of the snapshot's root it lies under
    entry: Entry


@dataclass(slots=True, eq=False)
class Batch:
    """Some files, whose directories stay open until they are released."""

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

    def items(self) -> list[Item]:
        """Return the files with their directories as they are open now."""
        return [Item(job.directory.opened(), job.planned.source, job.planned.entry)
                for job in self.jobs]  # fmt: skip


class Placed(NamedTuple):
    """A file whose chunks' places are known, and its number in the batch."""

    number: int
    item: Item
    pieces: Sequence[Piece]  # none where they are not known at once


class Slice(NamedTuple):
    """Files whose frames fit into memory together."""

    files: list[Placed]
    frames: dict[FrameLocation, bool]  # in order; whether it is one chunk's own


def in_pack_order(reader: Chunks, items: Sequence[Item]) -> Iterator[Slice]:
    """Yield the files as their bytes lie in the packs, with at most WINDOW_BYTES of frames each.

    What a file needs is known where its extents are few; another is written as it comes.
    """
    placed = [
        Placed(number, item, _pieces(reader, item.entry)) for number, item in enumerate(items)
    ]
    placed.sort(key=_first)
    current, held = Slice([], {}), 0
    for file in placed:
        frames = {
            place.frame: has_frame_of_its_own(place)
            for _, _, place in file.pieces
            if place is not None
        }
        cost = sum([frame.plain for frame in frames if frame not in current.frames])
        if current.files and held + cost > WINDOW_BYTES:
            yield current
            current, held, cost = Slice([], {}), 0, sum([frame.plain for frame in frames])
        current.files.append(file)
        current.frames.update(frames)
        held += cost
    yield current


def _first(placed: Placed) -> tuple[bytes, int]:
    """Return pack and offset of what a file begins with."""
    for piece in placed.pieces:
        if piece.place is not None:
            return piece.place.frame.pack, piece.place.frame.offset
    return b"", 0


def _pieces(reader: Chunks, entry: Entry) -> Sequence[Piece]:
    """Return where the chunks of a file lie, or nothing where that is not known at once."""
    if entry.depth or entry.size > WINDOW_BYTES:
        return ()
    try:
        return pieces_of(reader, entry)
    except (ObjectMissing, ObjectDamaged):
        return ()  # writing it will say what is wrong
