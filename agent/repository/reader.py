"""Reading one vault: from an id to verified bytes.

After a frame was opened, each chunk's id is computed again: what comes out is what was named, or
an error that names the object.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from agent.crypto.naming import IdKey
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.ids import ChunkId, TreeId, short
from agent.model.location import ChunkLocation, FrameLocation, PackKind
from agent.model.tree import Entry, Extent, TreePage, decode_page, unpack_extents
from agent.repository.frames import Frame, FrameReader
from agent.repository.index import Index

MAX_LEVELS = 64  # of inner pages, which at least halve at each: 2^64 names would fit
NEAR_CHUNKS = 8 * 1024  # 4 MB; looking a chunk up takes longer than anything else of a small read
MAX_DEPTH = 8  # 64 extents times 1024^8: no file is longer; a hostile tree cannot make us recurse


class VaultReader:
    """Tree pages, extents and chunks of one vault.  Thread-safe; every method may block."""

    def __init__(self, frames: FrameReader, index: Index, ids: IdKey) -> None:
        """Take where frames come from and the index as it was when the session began."""
        self._frames = frames
        self._index = index
        self._ids = ids
        self._near: dict[bytes, ChunkLocation] = {}  # of chunks prefetched: where they lie

    def page(self, tree_id: TreeId | bytes) -> TreePage:
        """Return a tree page, verified and decoded."""
        return decode_page(bytes(self._plain(tree_id, PackKind.TREE)))

    def entries(self, root: TreeId | bytes) -> Iterator[Entry]:
        """Yield a directory's entries in name order, page by page; `root` may be empty.

        Raises ObjectDamaged where pages repeat, overlap or nest without end.
        """
        if root:
            last = b""
            for entry in self._entries(self.page(root), MAX_LEVELS):
                if entry.name <= last:
                    raise ObjectDamaged("the pages of a directory overlap")
                last = entry.name
                yield entry

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) from the extent that holds byte `start` on, in order.

        Together they cover `size` bytes, or none where the file could not be read; raises
        ObjectDamaged where they say otherwise.
        """
        if entry.depth > MAX_DEPTH:
            raise ObjectDamaged("a file's content lies deeper than any file needs")
        if entry.content:
            yield from self._extents(entry.content, entry.depth, (0, entry.size), start)

    def locate(self, id_: bytes) -> ChunkLocation:
        """Return where a chunk or page lies; raise ObjectMissing where no index knows it."""
        location = self._index.find(id_)
        if location is None:
            raise ObjectMissing(
                f"no index lists the object {short(id_)}…",
                hint="an index object is missing: run `vitrine verify`",
            )
        return location

    def chunk(self, chunk_id: ChunkId | bytes) -> memoryview:
        """Return a data chunk's plaintext, verified against its id."""
        return self._plain(chunk_id, PackKind.DATA)

    def chunk_at(self, at: ChunkLocation, id_: bytes, kind: PackKind) -> memoryview:
        """Return a chunk or page from one place, verified, wherever else it may be."""
        return self._at(at, id_, kind)

    def stretch(self, at: ChunkLocation) -> memoryview:
        """Return what lies at one place, unsealed, and compared with no id: for who checks all."""
        plain = self._frames.frame(at.frame, PackKind.DATA).plain
        return plain[at.offset : at.offset + at.length]

    def sealed_frames(self, frames: Iterable[FrameLocation]) -> dict[FrameLocation, memoryview]:
        """Return frames as they are stored, for `open_frame`; what cannot be read is left out."""
        return self._frames.sealed(frames)

    def open_frame(self, at: FrameLocation, sealed: memoryview, into: memoryview) -> None:
        """Write what a frame holds to `into`, exactly as long; compared with no id."""
        self._frames.open_into(at, PackKind.DATA, sealed, into)

    def prefetch_frames(self, frames: Sequence[FrameLocation]) -> None:
        """Bring frames into memory, neighbours with one request, as `prefetch` does."""
        self._frames.prefetch(frames, PackKind.DATA)

    def content_page(self, id_: TreeId | bytes) -> bytes:
        """Return the packed extents of a content page, verified."""
        return bytes(self._plain(id_, PackKind.TREE))

    def cached_chunk(self, chunk_id: ChunkId | bytes) -> memoryview | None:
        """Return the chunk if its frame is in memory already, else None; does not block."""
        return self._cached(chunk_id, PackKind.DATA)

    def prefetch(self, chunk_ids: Iterable[ChunkId | bytes]) -> None:
        """Bring these chunks into memory, verified, neighbours with one request.

        What is missing or damaged is left for `chunk` to report.
        """
        found = [(id_, at) for id_ in chunk_ids if (at := self._index.find(id_)) is not None]
        by_frame = [
            (frame, list(each)) for frame, each in groupby(found, key=lambda one: one[1].frame)
        ]
        self._frames.prefetch((frame for frame, _ in by_frame), PackKind.DATA)
        for location, each in by_frame:
            frame = self._frames.cached(location, PackKind.DATA)
            if frame is not None:
                with contextlib.suppress(ObjectDamaged):
                    for id_, at in each:
                        self._checked(frame, id_, at, PackKind.DATA)
        if len(self._near) + len(found) > NEAR_CHUNKS:
            self._near = {}
        self._near.update(found)

    def cached_page(self, tree_id: TreeId | bytes) -> TreePage | None:
        """Return a tree page if its frame is in memory already, else None; does not block."""
        plain = self._cached(tree_id, PackKind.TREE)
        return None if plain is None else decode_page(bytes(plain))

    def _entries(self, page: TreePage, levels: int) -> Iterator[Entry]:
        if not levels:
            raise ObjectDamaged("a directory's pages nest deeper than any directory needs")
        yield from page.entries
        for ref in page.pages:
            below = self.page(ref.id)
            if below.first_name != ref.first:
                raise ObjectDamaged("a page begins with another name than the page above says")
            yield from self._entries(below, levels - 1)

    def _extents(
        self, packed: bytes | memoryview, depth: int, covers: tuple[int, int], start: int
    ) -> Iterator[tuple[int, Extent]]:
        """Yield the extents from `start` on of a list that covers these bytes, first and end."""
        offset, whole = covers
        extents = list(unpack_extents(packed))
        lengths = [extent.length for extent in extents]
        # none is empty, or a hostile page that names one page over and over would not end
        if offset + sum(lengths) != whole or 0 in lengths:
            raise ObjectDamaged("a file's extents do not add up to what they should cover")
        for extent in extents:
            end = offset + extent.length
            if end > start:
                if depth and not extent.is_hole:
                    page = self._plain(extent.id, PackKind.TREE)
                    yield from self._extents(page, depth - 1, (offset, end), start)
                else:
                    yield offset, extent
            offset = end

    def _plain(self, id_: bytes, kind: PackKind) -> memoryview:
        """Return the bytes by that name, from the first of the places listed that has them."""
        location = self.locate(id_)
        try:
            return self._at(location, id_, kind)
        except (ObjectDamaged, ObjectMissing):
            for other in self._index.find_all(id_):
                if other != location:
                    with contextlib.suppress(ObjectDamaged, ObjectMissing):
                        return self._at(other, id_, kind)
            raise

    def _cached(self, id_: bytes, kind: PackKind) -> memoryview | None:
        """Return the bytes by that name if they are in memory and sound."""
        location = self._near.get(id_) or self.locate(id_)
        frame = self._frames.cached(location.frame, kind)
        if frame is None:
            return None
        try:
            return self._checked(frame, id_, location, kind)
        except ObjectDamaged:
            return None  # another place may have it, which takes waiting

    def _at(self, location: ChunkLocation, id_: bytes, kind: PackKind) -> memoryview:
        return self._checked(self._frames.frame(location.frame, kind), id_, location, kind)

    def _checked(
        self, frame: Frame, id_: bytes, location: ChunkLocation, kind: PackKind
    ) -> memoryview:
        stretch = (bytes(id_), location.offset, location.length)
        plain = frame.plain[location.offset : location.offset + location.length]
        if stretch not in frame.checked:
            name = self._ids.chunk_id if kind is PackKind.DATA else self._ids.tree_id
            if len(plain) != location.length or name(plain) != id_:
                raise ObjectDamaged(f"the bytes stored as {short(id_)}… are not what was named so")
            frame.checked.add(stretch)
        return plain
