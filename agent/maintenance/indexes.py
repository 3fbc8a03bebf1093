"""Index objects made anew: for packs that none lists, and without packs that are no more."""

from collections.abc import Collection

from agent.crypto.box import IndexKey
from agent.errors import ObjectDamaged, ObjectMissing
from agent.model.ids import VaultId
from agent.repository import layout
from agent.repository.condemned import newest_record
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexmaking import encode, merge
from agent.repository.pack import Contents
from agent.repository.packtable import check_bytes
from agent.repository.rebuild import FLUSH_CHUNKS, unindexed
from agent.store.base import Store


def index_again(
    store: Store, cache: IndexCache, vault: VaultId, key: IndexKey, damaged: Collection[str] = ()
) -> int:
    """Write index objects for packs of a vault that none lists; return how many packs.

    Those named in `damaged` count for nothing, though a local copy of one be whole.

    A pack's bytes are compared with its name first: who wrote it may have lied about its table.
    Packs on their way out are left out: no index may bring them back.
    """
    doomed = newest_record(store, vault, key).doomed()
    batch: list[Contents] = []
    packs = 0
    files = [f for f in cache.refresh().files if layout.index(vault, f.id) not in damaged]
    for contents in unindexed(store, Index(files), vault, key, lambda *_: None):
        if contents.pack in doomed or not _is_whole(store, contents):
            continue
        batch.append(contents)
        packs += 1
        if sum(len(one.chunks) for one in batch) >= FLUSH_CHUNKS:
            _put(store, cache, vault, key, encode(batch))
            batch = []
    if batch:
        _put(store, cache, vault, key, encode(batch))
    return packs


def forget(
    store: Store, cache: IndexCache, vault: VaultId, key: IndexKey, packs: Collection[bytes]
) -> int:
    """Replace every index object of a vault that lists one of `packs`; return how many."""
    replaced = 0
    for file in cache.refresh().files:
        gone = {row.id for row in file.packs() if row.id in packs}
        if gone:
            _put(store, cache, vault, key, merge([file], without=gone))
            replaced += 1
    return replaced


def _put(store: Store, cache: IndexCache, vault: VaultId, key: IndexKey, plain: bytes) -> None:
    id_, box = seal_index(plain, key)
    store.put(layout.index(vault, id_), [box])
    cache.add(id_, plain)


def _is_whole(store: Store, contents: Contents) -> bool:
    try:
        check_bytes(store, contents.pack, contents.size)
    except (ObjectDamaged, ObjectMissing):
        return False  # which verification reports
    return True
