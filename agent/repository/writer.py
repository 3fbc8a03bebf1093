"""Appending to one vault: claim ids, fill packs, flush the index, commit a snapshot.

Order is everything: a pack is durable before an index names it, an index before a snapshot needs
it, and the snapshot is the only commit point.  What was put and not committed is garbage that the
next run adopts (`adopt_orphans`) instead of storing it again.

Thread-safe but for `flush` and `commit`, which the one coordinating task calls.
"""

import logging
import threading
from collections.abc import Iterable
from typing import NamedTuple

from agent.crypto.naming import object_name
from agent.crypto.secrets import WriterKeys
from agent.errors import (
    ChainBroken,
    ObjectDamaged,
    ObjectExists,
    RepositoryError,
    StoreUnavailable,
)
from agent.model.ids import PackId, SnapshotId, TreeId
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.chain import Chains, encode_snapshot, find_tip
from agent.repository.idfilter import IdFilter
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache, seal_index
from agent.repository.indexfile import IndexFile
from agent.repository.indexmaking import encode, merge
from agent.repository.pack import Contents, PackBuilder
from agent.repository.packtable import check_bytes, read_contents
from agent.repository.reliance import Reliance
from agent.store.base import Store

_log = logging.getLogger(__name__)

FLUSH_CHUNKS = 64 * 1024  # bounds the ids held in memory between two index objects: about 10 MB
MERGE_FAN_IN = 8  # so many index objects of one size class become one of the next
MERGE_MAX_CHUNKS = 512 * 1024  # 24 MiB of records: bounds the memory of a merge


class Tip(NamedTuple):
    """The end of this writer's chain."""

    sequence: int
    id: bytes


class VaultWriter:
    """One run's writes to one vault.

    After `put` raised, ids that others were told not to store may never come: this writer then
    refuses to commit, and the next run makes a new one.  `flush` and `commit` may be tried again.
    """

    def __init__(self, store: Store, keys: WriterKeys, cache: IndexCache) -> None:
        """Take the vault's write-only keys and the local index cache, which is refreshed."""
        self.ids = keys.ids()
        self._store = store
        self._vault = keys.vault
        self._epoch = keys.epoch
        self._seal = keys.seal()
        self._index_key = keys.index()
        self._signer = keys.signer()
        self._host = keys.host()
        self._cache = cache
        self.reliance = Reliance(store, keys.vault, self._index_key)
        self._index: Index = cache.refresh()
        self._first_index = self._index  # files that are merged meanwhile stay mapped
        self._filter = IdFilter()  # of what came since
        self._lock = threading.Lock()
        self._claimed: set[bytes] = set()  # promised to come, not in a pack yet
        self._stored: set[bytes] = set()  # in a durable pack, not in the index yet
        self._unindexed: list[Contents] = []
        self._unindexed_chunks = 0
        self.added_bytes = 0

    def claim(self, id_: bytes) -> bool:
        """Return True if the caller must store this chunk or page: nobody has, nobody will."""
        return bool(self.claim_all((id_,)))

    def claim_all(self, ids: Iterable[bytes]) -> set[bytes]:
        """Return those of `ids` that the caller must store, as `claim` tells of each."""
        wanted = set(self._first_index.unknown(ids, self.reliance.doomed, self.reliance.packs))
        with self._lock:  # in which nothing moves from the sets to the index
            maybe = self._filter.matching(wanted)
            wanted.difference_update([id_ for id_ in maybe if self._has_come(id_)])
            self._filter.add(wanted)
            self._claimed |= wanted
        return wanted

    def builder(self, kind: PackKind) -> PackBuilder:
        """Return an empty pack to fill."""
        draft = self._store.begin()
        return PackBuilder(self._seal, self._index_key, self._vault, self._epoch, kind, draft)

    def put(self, builder: PackBuilder) -> None:
        """Finish the pack and make it durable."""
        contents = builder.finish()
        with self._lock:
            self._took(contents)
            self.added_bytes += contents.size

    @property
    def wants_flush(self) -> bool:
        """Tell whether enough has been put that it should be indexed before going on."""
        return self._unindexed_chunks >= FLUSH_CHUNKS

    def flush(self) -> None:
        """Index every pack that was put: from here on a crash loses none of them.

        Raises StoreUnavailable where packs that this run relies on are being deleted.
        """
        self.reliance.check()
        while packs := self._next_unindexed():
            self._put_index(encode(packs))
            with self._lock:
                del self._unindexed[: len(packs)]
                self._unindexed_chunks -= sum(len(pack.chunks) for pack in packs)
                self._stored.difference_update(c.id for pack in packs for c in pack.chunks)
            self._merge_small()

    def commit(self, snapshot: Snapshot) -> SnapshotInfo:
        """Flush, then put the snapshot; it must follow `tip()`.

        Raises StoreUnavailable where anything claimed is in no pack, or a pack that it relies on
        is being deleted: the snapshot would name what is not there.
        """
        if self._claimed:
            raise StoreUnavailable(
                f"{len(self._claimed)} chunks of this run were not stored: it commits nothing",
                hint="take the snapshot again; what was stored is not stored twice",
            )
        self.flush()
        self.reliance.check()
        data = encode_snapshot(snapshot, self._index_key, self._signer)
        try:
            name = layout.snapshot(self._vault, self._host, snapshot.sequence)
            self._store.put(name, [data])
        except ObjectExists:
            return self._committed_before(snapshot)
        return SnapshotInfo(SnapshotId(object_name(data)), snapshot, len(data))

    def tip(self) -> Tip:
        """Return the end of this writer's chain, from the repository."""
        return Tip(*find_tip(self._store, self._vault, self._host, self._signer.verify_key()))

    def adopt_orphans(self) -> int:
        """Index packs of this vault that a crashed run left; return how many."""
        indexed = {pack.id for file in self._index.files for pack in file.packs()}
        adopted = 0
        for listed in self._store.list(layout.PACKS):
            pack = layout.pack_id(listed.name)
            if pack is None or pack in indexed or pack in self.reliance.doomed:
                continue
            contents = self._orphan(pack, listed.size)
            if contents is not None:
                adopted += 1
                with self._lock:
                    self._filter.add(chunk.id for chunk in contents.chunks)
                    self._took(contents)
                if self.wants_flush:
                    self.flush()
        self.flush()
        return adopted

    def _orphan(self, pack: PackId, size: int) -> Contents | None:
        """Return what an unindexed pack holds, or None if it is another vault's or damaged.

        Every byte is checked, for from here on chunks are not stored again that it holds.
        """
        try:
            contents = read_contents(self._store, self._index_key, self._vault, pack, size)
            if contents is not None:
                check_bytes(self._store, pack, size)
        except RepositoryError as error:
            _log.warning("an unindexed pack is passed over: %s", error)
            return None
        return contents

    def _has_come(self, id_: bytes) -> bool:
        """Tell whether an id is promised, stored or indexed; the lock is held."""
        if id_ in self._claimed or id_ in self._stored:
            return True
        return not self._index.unknown((id_,), self.reliance.doomed, self.reliance.packs)

    def _took(self, contents: Contents) -> None:
        """Note a durable pack; the lock is held."""
        ids = [chunk.id for chunk in contents.chunks]
        self.reliance.packs.add(contents.pack)
        self._stored.update(ids)  # first: an id must never be seen in neither set
        self._claimed.difference_update(ids)
        self._unindexed.append(contents)
        self._unindexed_chunks += len(ids)

    def _next_unindexed(self) -> list[Contents]:
        """Return the oldest packs that no index lists, as many as one index object should."""
        with self._lock:
            count = chunks = 0
            while count < len(self._unindexed) and chunks < FLUSH_CHUNKS:
                chunks += len(self._unindexed[count].chunks)
                count += 1
            return self._unindexed[:count]

    def _committed_before(self, snapshot: Snapshot) -> SnapshotInfo:
        """Return the stored snapshot if it is this one: an earlier try had come through."""
        verify, sequence = self._signer.verify_key(), snapshot.sequence
        chains = Chains(self._store, self._vault, self._index_key, {self._host: verify})
        found = chains.read(self._host, sequence)
        if found.snapshot != snapshot:
            raise ChainBroken(
                f"snapshot {sequence} of this host exists already",
                hint="another agent uses this host's keys: enrol each host on its own",
            )
        return found

    def _mergeable(self) -> list[IndexFile]:
        """Return the index files that list no doomed pack: no merge may bring back what is gone."""
        doomed = self.reliance.doomed
        if not doomed:
            return list(self._index.files)
        return [
            file for file in self._index.files if not any(row.id in doomed for row in file.packs())
        ]

    def _put_index(self, plain: bytes) -> None:
        id_, box = seal_index(plain, self._index_key)
        self._store.put(layout.index(self._vault, id_), [box])
        self._index = self._cache.add(id_, plain)

    def _merge_small(self) -> None:
        """Keep the number of index objects logarithmic; superseded ones stay for the pruner."""
        for group in _size_classes(self._mergeable()):
            smallest = sorted(group, key=lambda file: file.chunk_count)[:MERGE_FAN_IN]
            total = sum(file.chunk_count for file in smallest)
            if len(smallest) < MERGE_FAN_IN or total > MERGE_MAX_CHUNKS:
                continue
            try:
                merged = merge(smallest)
            except ObjectDamaged as error:
                _log.warning("index objects are not merged: %s", error)
                continue
            self._put_index(merged)
            return


def _size_classes(files: Iterable[IndexFile]) -> list[list[IndexFile]]:
    """Return the files grouped by the power of MERGE_FAN_IN that their size lies under."""
    classes: dict[int, list[IndexFile]] = {}
    for file in files:
        size, rank = file.chunk_count, 0
        while size >= MERGE_FAN_IN:
            size //= MERGE_FAN_IN
            rank += 1
        classes.setdefault(rank, []).append(file)
    return list(classes.values())


def put_page(writer: VaultWriter, builder: PackBuilder, page: bytes) -> TreeId:
    """Add a page to `builder` unless it is known; return its id."""
    id_ = writer.ids.tree_id(page)
    if writer.claim(id_):
        builder.add(id_, page)
    return id_
