"""The bytes of a restored file: from chunks to a descriptor, holes left out, all of it hashed.

One hash over the file says all that one over each chunk would, for its digest is of the verified
tree.  Only where it differs, every chunk is read again and compared with its id: that finds which
is wrong, and another copy where there is one.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

from agent.crypto.naming import ObjectHasher
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import ChunkLocation, FrameLocation
from agent.model.tree import Entry, Extent, unpack_extents
from agent.restore.staging import Staging

MiB = 1024 * 1024
WINDOW_BYTES = 8 * MiB  # of one file in memory, and as much again fetched ahead
_WINDOW_EXTENTS = 4096
_OWN_FRAME_BYTES = 32 * 1024  # a smaller frame is decoded as fast as it is asked for
_ZEROS = bytes(MiB)


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


Put = Callable[[Piece, Mapping[FrameLocation, memoryview]], None]


class _Own(threading.local):
    """What each thread that fills files has for itself."""

    def __init__(self) -> None:
        self.hasher = ObjectHasher()
        self.staging = Staging(self._hash)

    def _hash(self, data: memoryview) -> None:
        self.hasher.update(data)


class ContentWriter:
    """Fills files.  Thread-safe."""

    def __init__(self, reader: Chunks, ahead: Executor, moved: Callable[[int], None]) -> None:
        """Fetch in `ahead`; `moved` hears of each stretch of bytes, and raises to stop."""
        self._reader = reader
        self._ahead = ahead
        self._moved = moved
        self._own = _Own()

    def fill(self, descriptor: int, entry: Entry, whole: Window | None = None) -> None:
        """Write the whole content; raise ObjectDamaged where it is not what was backed up.

        `whole` is all of the file, where that has been fetched.
        """
        if entry.size > WINDOW_BYTES:
            os.ftruncate(descriptor, entry.size)  # a size that no file can have fails before work
        if entry.digest and self._is_filled(descriptor, entry, whole):
            return
        counted = 0 if entry.digest else 1  # the first try has been counted
        windows = self._fetched(entry)
        digest = self._filled(descriptor, entry, windows, self._put_verified, counted)
        # every chunk was checked by its id; this checks that they are this file's, in this order
        if entry.digest and digest != entry.digest:
            raise ObjectDamaged("a file's bytes are not those that were backed up")

    def _is_filled(self, descriptor: int, entry: Entry, whole: Window | None) -> bool:
        """Write what lies at the first place of each chunk; tell whether that is the file."""
        windows = self._fetched(entry) if whole is None else (whole,)
        try:
            return self._filled(descriptor, entry, windows, self._put, 1) == entry.digest
        except (ObjectDamaged, ObjectMissing):
            return False  # trying again says what is wrong, or finds another copy

    def _filled(
        self, descriptor: int, entry: Entry, windows: Iterable[Window], put: Put, counted: int
    ) -> bytes:
        """Write the file, each piece by `put`; return the digest of all of it."""
        hasher = self._own.hasher = ObjectHasher()
        staging = self._own.staging
        staging.begin(descriptor)
        end = 0
        for pieces, sealed in windows:
            for piece in pieces:
                length = piece.extent.length
                end = piece.at + length
                if piece.extent.is_hole:
                    staging.skip(length)
                    os.ftruncate(descriptor, entry.size)
                    self._skip(length, hasher, counted)
                else:
                    put(piece, sealed)
                    self._moved(length * counted)
        if end != entry.size:
            raise ObjectDamaged("a file's extents do not add up to its size")
        staging.flush()
        return hasher.digest()

    def _put(self, piece: Piece, sealed: Mapping[FrameLocation, memoryview]) -> None:
        """Stage what lies at a chunk's place, decoded there where it has a frame of its own."""
        place = piece.place
        if place is None:
            raise ObjectMissing("no index lists a chunk")
        stored = sealed.get(place.frame)
        if stored is not None and has_frame_of_its_own(place):
            _check_length(place.length, piece)
            room = self._own.staging.room(place.length)
            if room is not None:
                self._reader.open_frame(place.frame, stored, room)
                self._own.staging.filled(place.length)
                return
        data = self._reader.stretch(place)
        _check_length(len(data), piece)
        self._own.staging.add(data)

    def _put_verified(self, piece: Piece, sealed: Mapping[FrameLocation, memoryview]) -> None:
        """Stage a chunk that was compared with its id, from wherever it is whole."""
        del sealed
        data = self._reader.chunk(piece.extent.id)
        _check_length(len(data), piece)
        self._own.staging.add(data)

    def _fetched(self, entry: Entry) -> Iterator[Window]:
        """Yield the file in order; while those of one window are written, the next is fetched."""
        windows = self._windows(entry)
        current = self._fetch(next(windows, []))
        while current.pieces:
            coming = self._ahead.submit(self._fetch, next(windows, []))
            yield current
            current = coming.result()

    def _fetch(self, pieces: list[Piece]) -> Window:
        frames = {
            piece.place.frame: has_frame_of_its_own(piece.place)
            for piece in pieces
            if piece.place is not None
        }
        return Window(pieces, fetch(self._reader, frames))

    def _windows(self, entry: Entry) -> Iterator[list[Piece]]:
        window: list[Piece] = []
        held = 0
        for at, extent in self._reader.extents(entry):
            window.append(Piece(at, extent, place_of(self._reader, extent)))
            held += 0 if extent.is_hole else extent.length
            if held >= WINDOW_BYTES or len(window) >= _WINDOW_EXTENTS:
                yield window
                window, held = [], 0
        if window:
            yield window

    def _skip(self, length: int, hasher: ObjectHasher, counted: int) -> None:
        """Hash a hole, which reads as zeros, and write nothing."""
        while length > 0:
            zeros = min(length, MiB)
            hasher.update(_ZEROS if zeros == MiB else _ZEROS[:zeros])
            self._moved(zeros * counted)
            length -= zeros


def pieces_of(reader: Chunks, entry: Entry) -> list[Piece]:
    """Return the pieces of a file without content pages; ObjectDamaged where they are not its size.

    As the reader's `extents`, without a generator in a generator: most files have one piece.
    """
    pieces: list[Piece] = []
    at = 0
    for extent in unpack_extents(entry.content):
        if not extent.length:
            break
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
    return place.length == place.frame.plain and place.length >= _OWN_FRAME_BYTES


def fetch(
    reader: Chunks, frames: Mapping[FrameLocation, bool]
) -> Mapping[FrameLocation, memoryview]:
    """Return the frames of one chunk, as they are stored; have the others in memory, decoded."""
    sealed = reader.sealed_frames([frame for frame, is_own in frames.items() if is_own])
    reader.prefetch_frames([frame for frame, is_own in frames.items() if not is_own])
    return sealed


def _check_length(length: int, piece: Piece) -> None:
    if length != piece.extent.length:
        raise ObjectDamaged("a chunk is not as long as its file says")
