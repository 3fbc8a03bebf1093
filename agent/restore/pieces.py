"""A file's pieces: where each lies in the packs, and what has to be fetched for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import ChunkLocation, FrameLocation
from agent.model.tree import Entry, Extent, unpack_extents

MiB = 1024 * 1024
WINDOW_BYTES = 8 * MiB  # of plaintext whose frames are fetched together
SMALL_BYTES = 32 * 1024  # below, copying costs less than deciding where to decode to


class Chunks(Protocol):
    """What restoring needs of a vault's reader.  Thread-safe; may block."""

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) in order."""
        ...

    def locate(self, id_: bytes) -> ChunkLocation:
        """Return where a chunk lies; ObjectMissing where no index knows it."""
        ...

    def chunk(self, chunk_id: bytes) -> memoryview:
        """Return a chunk, verified against its id, from wherever it is whole."""
        ...

    def stretch(self, at: ChunkLocation) -> memoryview:
        """Return what lies at one place, unsealed, and compared with no id."""
        ...

    def prefetch_frames(self, frames: Sequence[FrameLocation]) -> None:
        """Bring frames into memory, neighbours with one request."""
        ...

    def sealed_frames(self, frames: Sequence[FrameLocation]) -> Mapping[FrameLocation, memoryview]:
        """Return frames as they are stored; what cannot be read is left out."""
        ...

    def open_frame(self, at: FrameLocation, sealed: memoryview, into: memoryview) -> None:
        """Write what a frame holds to `into`, exactly as long, compared with no id."""
        ...


class Piece(NamedTuple):
    """A stretch of a file."""

    at: int
    extent: Extent
    place: ChunkLocation | None  # of what it holds; None for a hole, and where no index knows


class Window(NamedTuple):
    """Pieces that follow each other, with what was fetched for them."""

    pieces: Sequence[Piece]
    sealed: Mapping[FrameLocation, memoryview] = {}


def pieces_of(reader: Chunks, entry: Entry) -> list[Piece]:
    """Return the pieces of a file without content pages; ObjectDamaged where they are not its size.

    As the reader's `extents`, without a generator in a generator: most files have one piece.
    """
    pieces: list[Piece] = []
    at = 0
    for extent in unpack_extents(entry.content):
        if not extent.length:
            raise ObjectDamaged("a file has an extent of nothing")
        pieces.append(Piece(at, extent, place_of(reader, extent)))
        at += extent.length
    if at != entry.size:
        raise ObjectDamaged("a file's extents do not add up to its size")
    return pieces


def place_of(reader: Chunks, extent: Extent) -> ChunkLocation | None:
    """Return where what it holds lies; None for a hole, and where no index knows."""
    if extent.is_hole:
        return None
    try:
        return reader.locate(extent.id)
    except ObjectMissing:
        return None  # reading it will say so


def has_frame_of_its_own(place: ChunkLocation) -> bool:
    """Tell whether a chunk is all that lies in its frame, and not too small to matter."""
    return place.length == place.frame.plain and place.length >= SMALL_BYTES


def fetch(
    reader: Chunks, frames: Mapping[FrameLocation, bool]
) -> Mapping[FrameLocation, memoryview]:
    """Return the frames of one chunk, as they are stored; have the others in memory, decoded."""
    sealed = reader.sealed_frames([frame for frame, is_own in frames.items() if is_own])
    reader.prefetch_frames([frame for frame, is_own in frames.items() if not is_own])
    return sealed
