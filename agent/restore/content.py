"""The bytes of a restored file: from chunks to a descriptor, holes left out, all of it hashed.

One hash over the file says all that one over each chunk would, for its digest is of the verified
tree.  Only where it differs, every chunk is read again and compared with its id: that finds which
is wrong, and another copy where there is one.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor

from agent.crypto.naming import ObjectHasher, object_name
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.location import FrameLocation
from agent.model.tree import Entry
from agent.restore.pieces import (
    SMALL_BYTES,
    WINDOW_BYTES,
    Chunks,
    Piece,
    Window,
    fetch,
    has_frame_of_its_own,
    place_of,
)
from agent.restore.staging import Staging, write_at

MiB = 1024 * 1024
_WINDOW_EXTENTS = 4096
_ZEROS = bytes(MiB)


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
            if whole is not None and len(whole.pieces) == 1 and entry.size < SMALL_BYTES:
                return self._is_small_filled(descriptor, entry, whole.pieces[0])
            return self._filled(descriptor, entry, windows, self._put, 1) == entry.digest
        except (ObjectDamaged, ObjectMissing):
            return False  # trying again says what is wrong, or finds another copy

    def _is_small_filled(self, descriptor: int, entry: Entry, piece: Piece) -> bool:
        """Write a file of one small chunk, as it lies in memory, if that is the file."""
        if piece.place is None or piece.extent.is_hole:
            return False
        data = self._reader.stretch(piece.place)
        _check_length(len(data), piece)
        self._moved(len(data))
        if len(data) != entry.size or object_name(data) != entry.digest:
            return False
        write_at(descriptor, data, 0)
        return True

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


def _check_length(length: int, piece: Piece) -> None:
    if length != piece.extent.length:
        raise ObjectDamaged("a chunk is not as long as its file says")
