"""Needed chunks out of packs that are mostly not: copied into new packs, then indexed.

The old pack is then needed no more, and leaves the way every pack does.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from agent.crypto.secrets import VaultSecrets
from agent.crypto.signing import SigningKey
from agent.maintenance.prune.marks import Marks
from agent.model.ids import PackId
from agent.model.location import ChunkLocation, FrameLocation, PackKind
from agent.repository import layout
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexmaking import encode
from agent.repository.pack import ChunkRow, Contents, PackBuilder
from agent.repository.packtable import read_contents
from agent.repository.reader import VaultReader
from agent.store.base import Store

INDEX_CHUNKS = 64 * 1024  # of one index object: bounds what is held in memory


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Copies what is needed of packs of one vault."""

    store: Store
    secrets: VaultSecrets
    reader: VaultReader
    cache: IndexCache
    marks: Marks

    def rewrite(
        self, packs: Collection[PackId], others: Collection[PackId], on_pack: Callable[[int], None]
    ) -> int:
        """Copy what is needed of `packs` and not held elsewhere; return the bytes written.

        `others` are on their way out as well, and hold nothing for anybody.  Every chunk is
        verified against its id.  On return the copies are durable and indexed.
        """
        keys = self.secrets.writer(SigningKey.generate().raw)
        builders: dict[PackKind, PackBuilder] = {}
        made: list[Contents] = []
        written = 0
        leaving = {*packs, *others}
        for pack in packs:
            for kind, row, plain in self._needed(pack, packs, leaving):
                builder = builders.get(kind)
                if builder is None:
                    builder = builders[kind] = PackBuilder(
                        keys.seal(),
                        keys.index(),
                        keys.vault,
                        keys.epoch,
                        kind,
                        self.store.begin(),
                    )
                builder.add(row.id, plain)
                if builder.is_full:
                    written += self._put(builders.pop(kind), made)
            on_pack(self.store.size(layout.pack(pack)))
        for builder in builders.values():
            written += self._put(builder, made)
        self._index(made)
        return written

    def _needed(
        self, pack: PackId, packs: Collection[PackId], leaving: Collection[PackId]
    ) -> Iterator[tuple[PackKind, ChunkRow, memoryview]]:
        """Yield what is copied from one of `packs`: what several of them hold, from one only."""
        seen: set[bytes] = set()
        key = self.secrets.reader().index()
        size = self.store.size(layout.pack(pack))
        contents = read_contents(self.store, key, self.secrets.vault, pack, size)
        for row in contents.chunks if contents else ():
            assert contents is not None  # noqa: S101 - or there were no rows
            is_ours = self.marks.is_needed(row.id) and self.marks.first_of(row.id, packs) == pack
            if is_ours and row.id not in seen and not self.marks.is_held(row.id, leaving):
                seen.add(row.id)
                at = _location(contents, row)
                yield contents.kind, row, self.reader.chunk_at(at, row.id, contents.kind)

    def _put(self, builder: PackBuilder, made: list[Contents]) -> int:
        contents = builder.finish()
        made.append(contents)
        if sum(len(one.chunks) for one in made) >= INDEX_CHUNKS:
            self._index(made)
        return contents.size

    def _index(self, made: list[Contents]) -> None:
        if made:
            plain = encode(made)
            id_, box = seal_index(plain, self.secrets.reader().index())
            self.store.put(layout.index(self.secrets.vault, id_), [box])
            self.cache.add(id_, plain)
            made.clear()


def _location(contents: Contents, row: ChunkRow) -> ChunkLocation:
    frame = contents.frames[row.frame]
    at = FrameLocation(contents.pack, row.frame, *frame)
    return ChunkLocation(at, row.offset, row.length)
