"""What a run relies on, and whether it still may: packs come to be deleted while it lasts."""

from typing import Final

from agent.crypto.box import IndexKey
from agent.errors import StoreUnavailable
from agent.model.ids import PackId, VaultId
from agent.repository.condemned import REMEMBERED, newest_record, record_numbers
from agent.store.base import Store


class Reliance:
    """The packs that one run's snapshot may need, and those that it must not.

    Threads may add to `packs` while others look on; `check` is the coordinating task's.
    """

    def __init__(self, store: Store, vault: VaultId, key: IndexKey) -> None:
        """Read the newest record of packs; the index is to be read after it."""
        self._store = store
        self._vault = vault
        self._key = key
        self._first = newest_record(store, vault, key)
        self._looked_at = self._first.number
        self._inherits = False
        self._is_lost = False
        self.packs: Final[set[PackId]] = set()
        self.doomed = self._first.doomed()  # replaced as a whole, for who reads it meanwhile

    @property
    def record(self) -> int:
        """The number of the record that the run began with."""
        return self._first.number

    def condemned_since(self, number: int) -> bool:
        """Tell whether a pack had been condemned after the record `number` when the run began."""
        return self._first.condemning > number

    @property
    def is_known(self) -> bool:
        """Tell whether `packs` are all that the run relies on."""
        return not self._inherits

    def inherit(self) -> None:
        """Take over a journal of which nobody knows which packs it relies on: it may be any."""
        self._inherits = True

    def check(self) -> None:
        """Look which packs were condemned meanwhile, and rely on them no more.

        Raises StoreUnavailable where the run did already.  That it did not holds for LEASE_S.
        """
        newest = max(record_numbers(self._store, self._vault), default=0)
        if newest != self._looked_at:
            leaving = newest_record(self._store, self._vault, self._key)
            nobody_knows = self._inherits or leaving.number - self.record >= REMEMBERED
            self._is_lost = self._is_lost or (nobody_knows and leaving.condemning > self.record)
            self.doomed |= leaving.doomed()
            self._looked_at = leaving.number
        if self._is_lost or self.packs & self.doomed:
            raise StoreUnavailable(
                "packs that this long run relied on are being deleted: it commits nothing",
                hint="take the snapshot again; what was lost to it is then stored anew",
            )
