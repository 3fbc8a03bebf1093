"""Repair: what verification finds damaged or missing is healed, brought back, or put aside.

A pack is healed from its parity, else fetched from a copy of the repository; small objects too.
Parity is made again, indexes are made again from the packs.  What is healed neither way is left as
it is and named; with `drop` it is put aside, and the indexes forget it, so that agents store again
what the live sources still have.  Nothing is believed but names and signatures.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from agent.crypto.secrets import ReaderKeys
from agent.errors import NotARepository, ObjectMissing, RepositoryError, StoreUnavailable
from agent.maintenance.heal import Healer, How, is_ours
from agent.maintenance.indexes import forget, index_again
from agent.maintenance.writeback import put_over
from agent.model.ids import PackId, VaultId
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.findings import Report
from agent.repository.genuine import Genuine
from agent.repository.indexcache import MAX_INDEX_BYTES, IndexCache
from agent.repository.packtable import read_header
from agent.repository.parity import MAX_OBJECT_BYTES
from agent.repository.vaults import open_repository, vault_ids
from agent.repository.verify import Progress, verify
from agent.store.base import Store

Caches = Callable[[ReaderKeys], IndexCache]
"""Returns the local copies of a vault's index."""


class RepairReport(msgspec.Struct, frozen=True):
    """What was done; names are objects', which tell nothing."""

    finished: int  # repairs that an earlier run had begun
    damaged: int  # objects that were not as they should be
    from_parity: tuple[str, ...]
    from_copy: tuple[str, ...]
    made_again: tuple[str, ...]  # parity
    indexed_packs: int  # listed again because an index object was lost
    put_aside: tuple[str, ...]
    lost: tuple[str, ...]  # neither parity nor a copy could heal it
    more: int  # damaged objects beyond those that one run looks at: run it again


@dataclass(frozen=True, slots=True)
class Repair:
    """Repairs one repository.  Without keys: packs, parity, snapshots; with them indexes too."""

    store: Store
    keys: Mapping[VaultId, ReaderKeys]
    caches: Caches
    copy: Store | None = None  # a second repository of the same id

    def run(self, on_progress: Progress, *, drop: bool = False) -> RepairReport:
        """Read everything, heal what can be healed; raise NotARepository where nothing is left."""
        healer = Healer(self.store, Genuine(self.store, self.keys), self.copy)
        finished = healer.finish()
        by = self._openable(healer)
        found = verify(self.store, keys=self.keys, read_data=True, on_progress=on_progress)
        names = {one.name for one in found.findings}
        by |= healer.heal_all(names)
        packs = self._index_again(names)
        lost = self._still_lost(found, by)
        aside = self._put_aside(lost) if drop else []
        return RepairReport(
            finished=finished,
            damaged=len(names | by.keys()) + found.more_findings,
            from_parity=_by(by, How.PARITY),
            from_copy=_by(by, How.COPY),
            made_again=_by(by, How.AGAIN),
            indexed_packs=packs,
            put_aside=tuple(aside),
            lost=tuple(name for name in lost if name not in aside),
            more=found.more_findings,
        )

    def _openable(self, healer: Healer) -> dict[str, How]:
        """Heal the object that everything begins with, where it needs it."""
        try:
            open_repository(self.store)
        except NotARepository:
            how = healer.heal(layout.REPOSITORY)
            if how is How.NOT:
                raise
            return {layout.REPOSITORY: how}
        return {}

    def _index_again(self, names: Collection[str]) -> int:
        """Make the indexes whole, where one is damaged or a snapshot's root is in none."""
        rooms = {name.split("/")[0] for name in names}
        if not rooms & {"index", "snapshots"}:
            return 0
        packs = 0
        for vault, keys in self.keys.items():
            mine = [name for name in names if name.startswith(layout.indexes(vault))]
            damaged = [name for name in mine if not self._is_genuine(name)]
            packs += index_again(self.store, self.caches(keys), vault, keys.index(), damaged)
            for name in damaged:  # what they listed is listed anew by now
                self.store.delete(name)
        return packs

    def _is_genuine(self, name: str) -> bool:
        try:
            data = get_bounded(self.store, name, MAX_INDEX_BYTES)
        except ObjectMissing:
            return True
        return Genuine(self.store).passes(name, data)

    def _still_lost(self, found: Report, by: Mapping[str, How]) -> list[str]:
        """Return what is not as it should be after all that was done."""
        if found.is_clean:
            return []
        after = verify(self.store, keys=self.keys, on_progress=lambda *_: None)
        lost = {name for name, how in by.items() if how is How.NOT}
        lost |= {one.name for one in after.findings if is_ours(one.name)}
        return sorted(name for name in lost if not self._is_replaced(name))

    def _is_replaced(self, name: str) -> bool:
        """Tell whether this is an index object that was made anew by another name."""
        return layout.index_id(name) is not None and not _is_there(self.store, name)

    def _put_aside(self, lost: Collection[str]) -> list[str]:
        """Have the indexes forget lost packs, which are kept under another name; return them."""
        packs = {pack: name for name in lost if (pack := layout.pack_id(name)) is not None}
        listed = self._listed()
        mine = {pack for pack in packs if pack in listed or self._is_ours(pack)}
        for pack in sorted(mine):
            if _is_there(self.store, packs[pack]):
                data = get_bounded(self.store, packs[pack], MAX_OBJECT_BYTES)
                put_over(self.store, layout.quarantined(pack), [data])
        for vault, keys in self.keys.items():
            forget(self.store, self.caches(keys), vault, keys.index(), mine)
        for pack in sorted(mine):
            self.store.delete(packs[pack])
        return sorted(packs[pack] for pack in mine)

    def _is_ours(self, pack: PackId) -> bool:
        """Tell whether a pack that no index lists is of a vault whose keys are at hand."""
        if _is_there(self.store, layout.quarantined(pack)):  # by a run that was interrupted
            return True
        if vault_ids(self.store) <= self.keys.keys():
            return True
        with suppress(RepositoryError, StoreUnavailable):
            return read_header(self.store, pack)[0].vault in self.keys
        return False

    def _listed(self) -> set[PackId]:
        """Return the packs listed by vaults whose keys are at hand: others nobody can forget."""
        return {
            row.id
            for keys in self.keys.values()
            for file in self.caches(keys).refresh().files
            for row in file.packs()
        }


def _by(healed: Mapping[str, How], how: How) -> tuple[str, ...]:
    return tuple(sorted(name for name, found in healed.items() if found is how))


def _is_there(store: Store, name: str) -> bool:
    try:
        store.size(name)
    except ObjectMissing:
        return False
    return True
