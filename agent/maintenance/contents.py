"""A snapshot's files, each read and hashed as a whole; or only looked for, which costs no reading.

Counts, never names: who maintains sees that files are lacking, not which.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import msgspec

from agent.crypto.naming import ObjectHasher
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.ids import PackId, SnapshotId
from agent.model.tree import Entry, Extent, Kind
from agent.repository.index import Index
from agent.repository.reader import VaultReader

_AHEAD: Final = 16  # extents fetched together: neighbours come with one request
_ZEROS: Final = bytes(1024 * 1024)
_UNREADABLE = (ObjectDamaged, ObjectMissing)

Progress = Callable[[int], None]
"""Hears of bytes read so far."""


class ContentsReport(msgspec.Struct, frozen=True):
    """What became of the files of one snapshot."""

    snapshot: str
    files: int
    bytes: int
    different: int  # other bytes than were backed up: must never be
    lacking: int  # something of it is damaged or missing
    unhashed: int  # could not be read when it was backed up
    lost_pages: int  # of directories: what they listed nobody knows

    @property
    def is_whole(self) -> bool:
        """Tell whether everything that was backed up can be read, as it was."""
        return not (self.different or self.lacking or self.lost_pages)


class _Counts:
    def __init__(self) -> None:
        self.files = self.bytes = self.different = self.lacking = self.unhashed = self.pages = 0

    def report(self, snapshot: SnapshotId) -> ContentsReport:
        return ContentsReport(
            snapshot=snapshot.hex(),
            files=self.files,
            bytes=self.bytes,
            different=self.different,
            lacking=self.lacking,
            unhashed=self.unhashed,
            lost_pages=self.pages,
        )


def read_contents(
    reader: VaultReader, snapshot: SnapshotId, root: bytes, on_progress: Progress
) -> ContentsReport:
    """Read every file of a snapshot and compare its BLAKE3 with the one in its entry."""
    counts = _Counts()
    for entry in _files(reader, root, counts):
        counts.files += 1
        if not entry.digest:
            counts.unhashed += 1
            continue
        try:
            counts.different += _digest(reader, entry) != entry.digest
        except _UNREADABLE:
            counts.lacking += 1
        counts.bytes += entry.size
        on_progress(counts.bytes)
    return counts.report(snapshot)


def look_for_contents(
    reader: VaultReader, index: Index, snapshot: SnapshotId, root: bytes, lost: frozenset[PackId]
) -> ContentsReport:
    """Count the files of a snapshot that need what only `lost` packs hold, or none."""

    def is_there(id_: bytes) -> bool:
        return any(at.frame.pack not in lost for at in index.find_all(id_))

    counts = _Counts()
    for entry in _files(reader, root, counts):
        counts.files += 1
        counts.bytes += entry.size
        try:
            extents = [extent for _, extent in reader.extents(entry)]
        except _UNREADABLE:
            counts.lacking += 1
            continue
        counts.lacking += not all(one.is_hole or is_there(one.id) for one in extents)
    return counts.report(snapshot)


def _files(reader: VaultReader, root: bytes, counts: _Counts) -> Iterator[Entry]:
    """Yield every file below a root page; pages that cannot be read are counted."""
    waiting = [root] if root else []
    while waiting:
        try:
            page = reader.page(waiting.pop())
        except _UNREADABLE:
            counts.pages += 1
            continue
        waiting += [ref.id for ref in page.pages]
        for entry in page.entries:
            if entry.kind is Kind.DIRECTORY:
                waiting += [entry.tree] if entry.tree else []
            elif entry.kind is Kind.FILE:
                yield entry


def _digest(reader: VaultReader, entry: Entry) -> bytes:
    hasher = ObjectHasher()
    extents = (extent for _, extent in reader.extents(entry))
    while batch := list(islice(extents, _AHEAD)):
        reader.prefetch([extent.id for extent in batch if not extent.is_hole])
        for extent in batch:
            for piece in _pieces(reader, extent):
                hasher.update(piece)
    return hasher.digest()


def _pieces(reader: VaultReader, extent: Extent) -> Iterator[bytes | memoryview]:
    if not extent.is_hole:
        yield reader.chunk(extent.id)
        return
    whole, rest = divmod(extent.length, len(_ZEROS))
    yield from (_ZEROS for _ in range(whole))
    yield _ZEROS[:rest]
