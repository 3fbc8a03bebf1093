"""The last look at packs that may go, and their going.

Indexes are written by agents, and an owned one may lie about where a chunk lies.  So nothing is
deleted on an index's word: what a pack really holds is read from its own table, and whatever of it
is needed has to be read, whole, from elsewhere.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from agent.crypto.box import IndexKey
from agent.errors import ObjectDamaged, ObjectMissing
from agent.maintenance.prune.marks import Marks
from agent.model.ids import IndexId, PackId, VaultId
from agent.model.location import PackKind
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.index import Index
from agent.repository.indexcache import MAX_INDEX_BYTES, IndexCache, open_index, seal_index
from agent.repository.indexfile import IndexFile
from agent.repository.indexmaking import merge
from agent.repository.packtable import read_contents
from agent.repository.reader import VaultReader
from agent.store.base import Store


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Deletes from one vault."""

    store: Store
    vault: VaultId
    key: IndexKey
    reader: VaultReader
    marks: Marks

    def still_needed(self, index: Index, packs: Iterable[PackId]) -> set[PackId]:
        """Return those of `packs` that must stay: something needed lies nowhere else, whole.

        A pack whose table cannot be read stays as well: nobody can tell what it holds.
        """
        going = set(packs)
        return {pack for pack in going if not self._may_go(index, pack, going)}

    def _may_go(self, index: Index, pack: PackId, going: Collection[PackId]) -> bool:
        try:
            size = self.store.size(layout.pack(pack))
            contents = read_contents(self.store, self.key, self.vault, pack, size)
        except ObjectMissing:
            return True
        except ObjectDamaged:
            return False
        if contents is None:
            return False
        return all(
            self._is_elsewhere(index, row.id, contents.kind, going)
            for row in contents.chunks
            if self.marks.is_needed(row.id)
        )

    def _is_elsewhere(
        self, index: Index, id_: bytes, kind: PackKind, going: Collection[PackId]
    ) -> bool:
        for at in index.find_all(id_):
            if at.frame.pack in going:
                continue
            try:
                self.reader.chunk_at(at, id_, kind)
            except (ObjectDamaged, ObjectMissing):
                continue
            return True
        return False

    def sweep(
        self, cache: IndexCache, packs: Collection[PackId], on_pack: Callable[[int], None]
    ) -> None:
        """Delete packs: first every index object that lists them is replaced, then they go."""
        for file in cache.refresh().files:
            if any(row.id in packs for row in file.packs()):
                plain = merge([file], without=packs)
                id_, box = seal_index(plain, self.key)
                self.store.put(layout.index(self.vault, id_), [box])
                cache.add(id_, plain)
        for pack in packs:
            self.store.delete(layout.parity(pack))  # first: without its pack nobody looks for it
            self.store.delete(layout.pack(pack))
            on_pack(1)

    def drop_superseded(self, index: Index, present: Collection[PackId]) -> int:
        """Delete index objects that live ones replace, and return how many.

        One stays where a pack that is there is listed by it and by no live one: whoever wrote
        what supersedes it may have been hostile.
        """
        live = {file.id for file in index.files}
        listed = {row.id for file in index.files for row in file.packs()}
        superseded = {old for file in index.files for old in file.supersedes} - live
        dropped = 0
        for found in list(self.store.list(layout.indexes(self.vault))):
            id_ = layout.index_id(found.name)
            if id_ is None or id_ not in superseded:
                continue
            if self._is_covered(id_, found.name, listed, present):
                self.store.delete(found.name)
                dropped += 1
        return dropped

    def _is_covered(
        self, id_: IndexId, name: str, listed: Collection[PackId], present: Collection[PackId]
    ) -> bool:
        try:
            box = get_bounded(self.store, name, MAX_INDEX_BYTES)
            file = IndexFile(open_index(box, self.key, name), id_.hex())
        except (ObjectDamaged, ObjectMissing):
            return True  # it tells nobody anything
        return all(row.id in listed or row.id not in present for row in file.packs())
