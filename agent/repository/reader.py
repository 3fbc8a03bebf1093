"""Reading one vault: from an id to verified bytes.

After a frame was opened, each chunk's id is computed again: what comes out is what was named, or
an error that names the object.
"""

from collections.abc import Iterable, Iterator

from agent.crypto.naming import IdKey
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.ids import ChunkId, TreeId, short
from agent.model.location import ChunkLocation, PackKind
from agent.model.tree import Entry, Extent, TreePage, decode_page, unpack_extents
from agent.repository.frames import Frame, FrameReader
from agent.repository.index import Index

MAX_DEPTH = 8  # 64 extents times 1024^8: no file is longer; a hostile tree cannot make us recurse


class VaultReader:
    """Tree pages, extents and chunks of one vault.  Thread-safe; every method may block."""

    def __init__(self, frames: FrameReader, index: Index, ids: IdKey) -> None:
        """Take where frames come from and the index as it was when the session began."""
        self._frames = frames
        self._index = index
        self._ids = ids

    def page(self, tree_id: TreeId | bytes) -> TreePage:
        """Return a tree page, verified and decoded."""
        return decode_page(bytes(self._tree_plain(tree_id)))

    def entries(self, root: TreeId | bytes) -> Iterator[Entry]:
        """Yield a directory's entries in name order, page by page; `root` may be empty."""
        if not root:
            return
        page = self.page(root)
        yield from page.entries
        for ref in page.pages:
            yield from self.entries(ref.id)

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) from the extent that holds byte `start` on, in order."""
        if entry.depth > MAX_DEPTH:
            raise ObjectDamaged("a file's content lies deeper than any file needs")
        yield from self._extents(entry.content, entry.depth, 0, start)

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
        location = self.locate(chunk_id)
        frame = self._frames.frame(location.frame, PackKind.DATA)
        return self._checked(frame, chunk_id, location, PackKind.DATA)

    def cached_chunk(self, chunk_id: ChunkId | bytes) -> memoryview | None:
        """Return the chunk if its frame is in memory already, else None; does not block."""
        location = self.locate(chunk_id)
        frame = self._frames.cached(location.frame)
        if frame is None:
            return None
        return self._checked(frame, chunk_id, location, PackKind.DATA)

    def prefetch(self, chunk_ids: Iterable[ChunkId | bytes]) -> None:
        """Bring the frames of these chunks into memory, neighbours with one request."""
        self._frames.prefetch((self.locate(id_).frame for id_ in chunk_ids), PackKind.DATA)

    def _extents(
        self, packed: bytes | memoryview, depth: int, offset: int, start: int
    ) -> Iterator[tuple[int, Extent]]:
        for extent in unpack_extents(packed):
            end = offset + extent.length
            if end > start:
                if depth and not extent.is_hole:
                    page = self._tree_plain(extent.id)
                    yield from self._extents(page, depth - 1, offset, start)
                else:
                    yield offset, extent
            offset = end

    def _tree_plain(self, id_: bytes) -> memoryview:
        location = self.locate(id_)
        frame = self._frames.frame(location.frame, PackKind.TREE)
        return self._checked(frame, id_, location, PackKind.TREE)

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
