"""Indexes made again from the packs themselves, whose tables open with the index key alone.

For a repository that lost index objects.  What no index lists is read from the packs and added to
a local cache; nothing is written to the repository.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.ids import IndexId, VaultId
from agent.repository import layout
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache
from agent.repository.indexmaking import encode
from agent.repository.pack import Contents
from agent.repository.packtable import read_contents
from agent.store.base import Store

FLUSH_CHUNKS = 64 * 1024  # of one local index file: bounds what is held in memory, about 10 MB

OnDamaged = Callable[[str, str], None]
"""Hears of a pack whose table cannot be read: its name, and why."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An index that lists every pack of a vault that can be read."""

    index: Index
    packs: int  # how many of them no index object listed


def rebuild_index(
    store: Store, cache: IndexCache, vault: VaultId, key: IndexKey, on_damaged: OnDamaged
) -> Rebuilt:
    """Return the vault's index as its index objects have it, and what they miss added.

    Where nothing is missing this costs one listing of the packs, and one small read for each pack
    of another vault.
    """
    index = cache.refresh()
    added = chunks = 0
    batch: list[Contents] = []
    for contents in unindexed(store, index, vault, key, on_damaged):
        batch.append(contents)
        added += 1
        chunks += len(contents.chunks)
        if chunks >= FLUSH_CHUNKS:
            index = _kept(cache, batch)
            batch, chunks = [], 0
    return Rebuilt(_kept(cache, batch) if batch else index, added)


def unindexed(
    store: Store, index: Index, vault: VaultId, key: IndexKey, on_damaged: OnDamaged
) -> Iterator[Contents]:
    """Yield what the packs hold that belong to this vault and are in no index."""
    listed = {pack.id for file in index.files for pack in file.packs()}
    for found in store.list(layout.PACKS):
        pack = layout.pack_id(found.name)
        if pack is None or pack in listed:
            continue
        try:
            contents = read_contents(store, key, vault, pack, found.size)
        except (ObjectDamaged, ObjectMissing) as error:
            on_damaged(found.name, error.message)
        else:
            if contents is not None:
                yield contents


def _kept(cache: IndexCache, contents: list[Contents]) -> Index:
    plain = encode(contents)
    return cache.add(IndexId(object_name(plain)), plain)
