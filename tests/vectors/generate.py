"""Make the frozen examples: `python -m tests.vectors.generate`, run once for version 1.

The keys and contents below are fixed.  What the format draws at random (salts, pack keys, what
HPKE encapsulates) is frozen in the files, which is why they are kept and not made anew: a file
that is there is never written over.  Delete one only to add a field to what is expected of it,
never because a test of the format failed: then the format changed, and needs another version.

Each file is JSON: `name` of the object, `object` in base64, and what it holds.
"""

import base64
import json
from pathlib import Path
from typing import Final

import msgspec

from agent.crypto.keyslots import (
    PassphraseCost,
    encode_slot,
    wrap_for_credential,
    wrap_for_passphrase,
)
from agent.crypto.naming import object_name
from agent.crypto.secrets import VaultSecrets
from agent.crypto.signing import SigningKey
from agent.model.ids import HostId, PackId, VaultId
from agent.model.location import PackKind
from agent.model.snapshot import NO_PREVIOUS, Snapshot, SourceState, Trigger
from agent.model.tree import Entry, Kind, TreePage, encode_page, pack_extents
from agent.repository import condemned, holds, layout, removals
from agent.repository.chain import encode_snapshot
from agent.repository.indexcache import seal_index
from agent.repository.indexmaking import encode
from agent.repository.pack import Contents, PackBuilder
from agent.repository.parity import encode as encode_parity
from agent.repository.vaults import create_repository, enrol_writer
from agent.store.memory import MemoryStore

HERE: Final = Path(__file__).parent
SECRETS: Final = VaultSecrets(
    vault=VaultId(bytes(range(16))),
    name="radiology",
    department="imaging",
    level=4,
    id_key=b"\x11" * 32,
    index_key=b"\x22" * 32,
    authority=b"\x33" * 32,
    epochs={1: bytes(range(96))},
)
HOST_KEY: Final = b"\x44" * 32
CREDENTIAL: Final = b"\x55" * 32
PASSPHRASE: Final = "Bl\u00e5b\u00e6rsyltet\u00f8y \u2460"
COST: Final = PassphraseCost(memory_kib=1024, iterations=2, lanes=2)
TIME_NS: Final = 1_763_942_400_000_000_000
PICTURE: Final = (  # 16 bits a sample: a slope with a bit of noise, black, then half a sample
    b"".join((n // 9 + (n * n * 40_503 >> 11) % 2).to_bytes(2, "little") for n in range(16_384))
    + bytes(20_000)
    + b"\x07"
)
CHUNKS: Final = (b"", b"a record", b"the same line again\n" * 60, bytes(range(256)))


def _save(file: str, name: str, data: bytes, **holds: object) -> None:
    path = HERE / f"{file}.json"
    if path.exists():
        return
    text = {"name": name, "object": base64.b64encode(data).decode(), **holds}
    path.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")


def _pack(file: str, kind: PackKind, pieces: list[tuple[bytes, bytes]]) -> Contents:
    keys = SECRETS.writer(HOST_KEY)
    store = MemoryStore()
    draft = store.begin()
    builder = PackBuilder(keys.seal(), keys.index(), keys.vault, keys.epoch, kind, draft)
    for id_, data in pieces:
        builder.add(id_, data)
    contents = builder.finish()
    chunks = {id_.hex(): data.hex() for id_, data in pieces if data != PICTURE}  # it is too long
    _save(file, layout.pack(contents.pack), store.get(layout.pack(contents.pack)), chunks=chunks)
    return contents


def tree_pages() -> tuple[bytes, bytes]:
    """Return the pages of a source's directory and of the snapshot's root."""
    ids = SECRETS.reader().ids()
    record = Entry(
        name=b"caf\xe9.dcm",
        mode=0o640,
        uid=1000,
        gid=1001,
        mtime_ns=TIME_NS - 1,
        ctime_ns=TIME_NS,
        inode=7,
        size=8,
        content=pack_extents([(ids.chunk_id(CHUNKS[1]), 8)]),
        digest=bytes.fromhex("5f" * 32),
        xattrs=((b"user.origin", b"pacs"),),
    )
    link = Entry(name=b"latest", kind=Kind.SYMLINK, mode=0o777, target=record.name, size=8)
    leaf = encode_page(TreePage(entries=(record, link)))
    source = Entry(
        name=b"images",
        kind=Kind.DIRECTORY,
        mode=0o755,
        tree=ids.tree_id(leaf),
        files=2,
        bytes=16,
        origin=b"/srv/images",
    )
    return leaf, encode_page(TreePage(entries=(source,)))


def main() -> None:
    """Write what is missing."""
    keys, ids = SECRETS.writer(HOST_KEY), SECRETS.reader().ids()
    store = MemoryStore()
    info = create_repository(store, TIME_NS)
    _save("repository", layout.REPOSITORY, store.get(layout.REPOSITORY), id=info.id)
    for file, slot in (
        ("keyslot-credential", wrap_for_credential(SECRETS, CREDENTIAL, "gate")),
        ("keyslot-passphrase", wrap_for_passphrase(SECRETS, PASSPHRASE, "recovery", COST)),
    ):
        _save(file, layout.slot(slot.vault, slot.slot), encode_slot(slot))
    host = enrol_writer(store, SECRETS, "pacs1", keys.signer().verify_key().raw)
    enrolment = layout.writer(SECRETS.vault, host)
    _save("enrolment", enrolment, store.get(enrolment), host_name="pacs1")
    data = _pack("pack-data", PackKind.DATA, [(ids.chunk_id(chunk), chunk) for chunk in CHUNKS])
    _pack("pack-numbers", PackKind.DATA, [(ids.chunk_id(PICTURE), PICTURE)])
    pages = tree_pages()
    tree = _pack("pack-tree", PackKind.TREE, [(ids.tree_id(page), page) for page in pages])
    index, box = seal_index(encode([data, tree]), keys.index())
    where = {
        chunk.id.hex(): [pack.pack.hex(), chunk.frame, chunk.offset, chunk.length]
        for pack in (data, tree)
        for chunk in pack.chunks
    }
    _save("index", layout.index(SECRETS.vault, index), box, where=where)
    snapshot = Snapshot(
        vault=SECRETS.vault,
        host=host,
        sequence=1,
        previous=NO_PREVIOUS,
        root=ids.tree_id(pages[1]),
        started_ns=TIME_NS,
        taken_ns=TIME_NS + 1,
        files=2,
        bytes=16,
        added_bytes=data.size + tree.size,
        trigger=Trigger.REQUEST,
        incomplete=(SourceState("0123456789abcdef", changed_while_read=1),),
    )
    body = json.loads(msgspec.json.encode(snapshot))
    name = layout.snapshot(SECRETS.vault, host, 1)
    _save("snapshot", name, encode_snapshot(snapshot, keys.index(), keys.signer()), snapshot=body)
    text = json.loads((HERE / "snapshot.json").read_text())  # as frozen: signing draws a salt
    frozen = base64.b64decode(text["object"])
    parity = b"".join(encode_parity(frozen, object_name(frozen)))
    _save("parity", layout.parity_of(text["name"]) or "", parity, of=text["name"])
    _signed_by_the_authority(host, object_name(frozen))


def _signed_by_the_authority(host: HostId, snapshot: bytes) -> None:
    """Make what governs snapshots and packs."""
    key, authority = SECRETS.reader().index(), SigningKey(SECRETS.authority)
    vault, name = SECRETS.vault, b"\x66" * holds.NAME_BYTES
    gone = removals.Removed(host, 1, snapshot, NO_PREVIOUS)
    removal = removals.RemovalRecord(vault, 1, removals.NO_RECORD, TIME_NS, (gone,))
    data = removals.encode_record(removal, key, authority)
    _save("removal", layout.removal(vault, 1), data)
    leaving = (condemned.Leaving(PackId(b"\x77" * 32), 5),)
    packs = condemned.PackRecord(vault, 3, TIME_NS, (), leaving, (), 2)
    data = condemned.encode_record(packs, key, authority)
    _save("pack-record", layout.pack_record(vault, 3), data)
    store = MemoryStore()
    hold = holds.Hold(vault, name, (snapshot,), 0, "a lawsuit", "officer", TIME_NS)
    holds.put_hold(store, hold, key, authority)
    release = holds.Release(vault, name, "settled", "officer", TIME_NS + 1)
    holds.put_release(store, release, key, authority)
    for file, place in (
        ("hold", layout.hold(vault, name)),
        ("release", layout.release(vault, name)),
    ):
        _save(file, place, store.get(place))


if __name__ == "__main__":
    main()
