"""The snapshots that live, told right also while retention removes some."""

from agent.crypto.secrets import ReaderKeys
from agent.errors import ChainBroken, ObjectMissing
from agent.model.snapshot import SnapshotInfo
from agent.repository.chain import Chains
from agent.repository.removals import Removals, read_removals
from agent.store.base import Store


def live_snapshots(
    store: Store, keys: ReaderKeys, chains: Chains
) -> tuple[list[SnapshotInfo], Removals]:
    """Return a vault's snapshots, their chains verified, and what was removed from it.

    Between reading records and listing snapshots retention may remove some: what then seems to be
    missing is looked at again for as long as there are more records than before.
    """
    removals = read_removals(store, keys)
    while True:
        try:
            return list(chains.snapshots(removals)), removals
        except (ChainBroken, ObjectMissing):
            newer = read_removals(store, keys)
            if len(newer.ids) <= len(removals.ids):  # a hostile storage cannot keep this going
                raise
            removals = newer
