"""Chains of snapshots, and removing some by the book, for tests of those who read what is left."""

from collections.abc import Sequence

from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.crypto.signing import SigningKey
from agent.model.snapshot import NO_PREVIOUS, Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.chain import decode_snapshot, encode_snapshot
from agent.repository.removals import (
    RemovalRecord,
    Removed,
    encode_record,
    read_removals,
)
from agent.store.base import Store


def remove(
    store: Store, secrets: VaultSecrets, gone: Sequence[SnapshotInfo], *, delete: bool = True
) -> RemovalRecord:
    """Write the record that removes snapshots, and then, unless told otherwise, delete them."""
    known = read_removals(store, secrets.reader())
    removed = tuple(
        Removed(i.snapshot.host, i.snapshot.sequence, i.id, i.snapshot.previous) for i in gone
    )
    record = RemovalRecord(secrets.vault, len(known.ids) + 1, known.tip, 0, removed)
    data = encode_record(record, secrets.reader().index(), SigningKey(secrets.authority))
    store.put(layout.removal(secrets.vault, record.number), [data])
    for one in removed if delete else ():
        store.delete(layout.snapshot(secrets.vault, one.host, one.sequence))
    return record


def make_chain(
    store: Store, keys: WriterKeys, length: int, *, taken_ns: int = 20, every_ns: int = 1
) -> list[SnapshotInfo]:
    """Commit a chain of snapshots of nothing; return it."""
    chain: list[SnapshotInfo] = []
    for sequence in range(1, length + 1):
        snapshot = Snapshot(
            vault=keys.vault,
            host=keys.host(),
            sequence=sequence,
            previous=chain[-1].id if chain else NO_PREVIOUS,
            root=b"",
            started_ns=0,
            taken_ns=taken_ns + sequence * every_ns,
            files=0,
            bytes=0,
        )
        data = encode_snapshot(snapshot, keys.index(), keys.signer())
        store.put(layout.snapshot(keys.vault, keys.host(), sequence), [data])
        verify = keys.signer().verify_key()
        chain.append(decode_snapshot(data, keys.index(), verify, keys.vault, keys.host(), sequence))
    return chain
