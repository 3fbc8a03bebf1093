"""What a directory, or a snapshot of it, says to who reads it: path → what lies there."""

import os
import stat
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from agent.crypto.secrets import VaultSecrets
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Kind
from agent.repository.reader import VaultReader
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.vaults import content, open_reader, snapshots, walk

Contents = dict[bytes, bytes]
_numbers = count()


def on_disk(directory: bytes, above: bytes = b"") -> Contents:
    """Return what lies below `directory` now."""
    found: Contents = {}
    for name in os.listdir(directory):
        path, whole = above + name, os.path.join(directory, name)
        mode = os.lstat(whole).st_mode
        if stat.S_ISDIR(mode):
            found[path] = b"directory"
            found |= on_disk(whole, path + b"/")
        elif stat.S_ISLNK(mode):
            found[path] = b"link " + os.readlink(whole)
        else:
            found[path] = b"file " + Path(os.fsdecode(whole)).read_bytes()
    return found


def stored(reader: VaultReader, info: SnapshotInfo) -> Contents:
    """Return what a snapshot of one source says of it."""
    (source,) = reader.entries(info.snapshot.root)
    found: Contents = {}
    for path, entry in walk(reader, source.tree):
        if entry.kind is Kind.DIRECTORY:
            found[path] = b"directory"
        elif entry.kind is Kind.SYMLINK:
            found[path] = b"link " + entry.target
        else:
            found[path] = b"file " + content(reader, entry)
    return found


def fresh_reader(store: Store, secrets: VaultSecrets, scratch: Path) -> VaultReader:
    """Return a reader that has seen nothing before."""
    return open_reader(store, secrets, scratch / f"fresh{next(_numbers)}")


def everything(
    store: Store, secrets: VaultSecrets, scratch: Path
) -> dict[tuple[bytes, int], Contents]:
    """Return what every snapshot of the vault says: (host, sequence) → contents."""
    reader = fresh_reader(store, secrets, scratch)
    return {
        (info.snapshot.host, info.snapshot.sequence): stored(reader, info)
        for info in snapshots(store, secrets)
    }


def objects(store: Store) -> dict[str, bytes]:
    """Return all that a store holds."""
    return {listed.name: store.get(listed.name) for listed in store.list("")}


def store_of(held: Mapping[str, bytes]) -> MemoryStore:
    """Return a store that holds these objects."""
    store = MemoryStore()
    for name, data in held.items():
        store.put(name, [data])
    return store
