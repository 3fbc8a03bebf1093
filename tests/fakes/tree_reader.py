"""A vault's reader made straight from a directory: the same trees, no repository below."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.crypto.naming import IdKey, object_name
from agent.errors import ObjectMissing
from agent.model.ids import ChunkId, HostId, SnapshotId, TreeId, VaultId
from agent.model.snapshot import NO_PREVIOUS, Snapshot, SnapshotInfo
from agent.model.tree import (
    HOLE,
    Entry,
    Extent,
    Kind,
    PageRef,
    TreePage,
    decode_page,
    encode_page,
    unpack_extents,
)
from agent.repository.trees import cut_entries, fold_extents, root_of

CHUNK_BYTES = 64 * 1024
ID_KEY = bytes(range(32))
VAULT = VaultId(b"v" * 16)

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}


class TreeReaderFake:
    """Reads what `store_source` stored.  A chunk is cached once it was read or prefetched."""

    def __init__(self) -> None:
        """Start with nothing stored."""
        self.ids = IdKey(ID_KEY)
        self.pages: dict[bytes, bytes] = {}
        self.chunks: dict[bytes, bytes] = {}
        self.warm: set[bytes] = set()
        self.fetched: list[bytes] = []  # by `chunk`, in order
        self.prefetched: list[bytes] = []

    # -- what fsdriver and restore call -----------------------------------------------------------

    def page(self, tree_id: TreeId | bytes) -> TreePage:
        """Return a page."""
        return decode_page(self._stored_page(tree_id))

    def cached_page(self, tree_id: TreeId | bytes) -> TreePage | None:
        """Return nothing: pages have to be waited for."""
        return None

    def extents(self, entry: Entry, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """Yield (offset, extent) from the extent that holds `start` on."""
        at = 0
        for extent in self._flat(entry.content, entry.depth):
            if at + extent.length > start:
                yield at, extent
            at += extent.length

    def chunk(self, chunk_id: ChunkId | bytes) -> memoryview:
        """Return a chunk."""
        self.fetched.append(chunk_id)
        self.warm.add(chunk_id)
        return memoryview(self.chunks[chunk_id])

    def cached_chunk(self, chunk_id: ChunkId | bytes) -> memoryview | None:
        """Return a chunk that was read before."""
        return memoryview(self.chunks[chunk_id]) if chunk_id in self.warm else None

    def prefetch(self, chunk_ids: Iterable[ChunkId | bytes]) -> None:
        """Warm chunks."""
        wanted = list(chunk_ids)
        self.prefetched += wanted
        self.warm.update(wanted)

    # -- what tests fill it with ----------------------------------------------------------------

    def put_page(self, plain: bytes) -> TreeId:
        """Store a page."""
        id_ = self.ids.tree_id(plain)
        self.pages[id_] = plain
        return id_

    def put_directory(self, entries: Iterable[Entry]) -> bytes:
        """Store a directory; return its root."""
        leaves = [
            PageRef(leaf[0].name, self.put_page(encode_page(TreePage(entries=tuple(leaf)))))
            for leaf in cut_entries(sorted(entries, key=lambda entry: entry.name))
        ]
        return root_of(leaves, self.put_page)

    def put_content(self, parts: Iterable[bytes | int]) -> tuple[bytes, int]:
        """Store a file's content: chunks, and holes as their lengths; return content and depth."""
        extents = []
        for part in parts:
            if isinstance(part, int):
                extents.append((HOLE, part))
            else:
                id_ = self.ids.chunk_id(part)
                self.chunks[id_] = part
                extents.append((id_, len(part)))
        return fold_extents(extents, self.put_page)

    def store_source(self, source: Path, label: bytes = b"") -> Entry:
        """Store a directory tree as a source; return its entry in a snapshot's root page."""
        entry = self._entry(os.fsencode(source), label or os.fsencode(source.name))
        return Entry(
            **{f: getattr(entry, f) for f in Entry.__struct_fields__ if f != "origin"},
            origin=os.fsencode(source),
        )

    def snapshot(
        self, sources: list[Entry], *, taken_ns: int, host: bytes = b"h" * 16, sequence: int = 1
    ) -> SnapshotInfo:
        """Return a snapshot of these sources."""
        files = sum(source.files for source in sources)
        size = sum(source.bytes for source in sources)
        snapshot = Snapshot(
            VAULT,
            HostId(host),
            sequence,
            NO_PREVIOUS,
            self.put_directory(sources),
            taken_ns,
            taken_ns,
            files,
            size,
        )
        id_ = SnapshotId(object_name(snapshot.root + host + taken_ns.to_bytes(8, "big")))
        return SnapshotInfo(id_, snapshot, 0)

    def _stored_page(self, id_: bytes) -> bytes:
        if id_ not in self.pages:
            raise ObjectMissing("no such page")
        return self.pages[id_]

    def _flat(self, packed: bytes, depth: int) -> Iterator[Extent]:
        for extent in unpack_extents(packed):
            if depth and not extent.is_hole:
                yield from self._flat(self._stored_page(extent.id), depth - 1)
            else:
                yield extent

    def _entry(self, path: bytes, name: bytes) -> Entry:
        status = os.lstat(path)
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        content, depth, tree, files, size = b"", 0, b"", 0, 0
        if kind is Kind.DIRECTORY:
            entries = [self._entry(os.path.join(path, child), child) for child in os.listdir(path)]
            tree = self.put_directory(entries)
            files = sum(e.files if e.kind is Kind.DIRECTORY else 1 for e in entries)
            size = sum(e.bytes if e.kind is Kind.DIRECTORY else e.size for e in entries)
        elif kind is Kind.FILE:
            content, depth = self.put_content(_parts(path, status.st_size))
        names = sorted(os.listxattr(path, follow_symlinks=False))
        return Entry(
            name=name,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
            links=1 if kind is Kind.DIRECTORY else status.st_nlink,
            size=status.st_size,
            content=content,
            depth=depth,
            digest=_digest(path) if kind is Kind.FILE else b"",
            target=os.readlink(path) if kind is Kind.SYMLINK else b"",
            device=status.st_rdev,
            xattrs=tuple(
                (os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in names
            ),
            tree=tree,
            files=files,
            bytes=size,
        )


def _parts(path: bytes, size: int) -> Iterator[bytes | int]:
    """Yield a file's data in chunks and its holes as lengths."""
    with open(path, "rb") as file:
        at = 0
        while at < size:
            try:
                data_at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                data_at = size
            if data_at > at:
                yield data_at - at
                at = data_at
                continue
            hole_at = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < hole_at:
                yield os.pread(file.fileno(), min(CHUNK_BYTES, hole_at - at), at)
                at = min(at + CHUNK_BYTES, hole_at)


def _digest(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return object_name(file.read())
