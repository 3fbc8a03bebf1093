"""Fuzz targets of snapshots and what else is signed, and of the names that objects have.

Storage may have any bytes, and a writer may have signed any: so each is tried as an object, and as
what lies sealed in one.
"""

import struct
from collections.abc import Iterator

import msgspec

from agent.crypto.signing import SigningKey
from agent.errors import ChainBroken, NotARepository, RepositoryTooNew, WrongKey
from agent.model.ids import PackId, SnapshotId
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.repository import chain, condemned, holds, layout, removals, signedbox
from agent.repository.vaults import (
    check_enrolment,
    open_repository,
    read_enrolment,
    writer_name,
)
from agent.store.memory import MemoryStore
from tests.fuzz.target import Target
from tests.fuzz.vectors import DAMAGED, HOST, INDEX_KEY, SIGNER, vector
from tests.vectors.generate import SECRETS, TIME_NS

_SIZE = struct.Struct("<Q")


def _snapshot_plain() -> Iterator[bytes]:
    _, data = vector("snapshot")
    info = _decoded(data)
    yield msgspec.msgpack.encode(info.snapshot)


def _decoded(data: bytes) -> SnapshotInfo:
    return chain.decode_snapshot(data, INDEX_KEY, SIGNER.verify_key(), SECRETS.vault, HOST, 1)


def _snapshot(data: bytes) -> None:
    """Check that what a writer signed decodes to what it says, and is written again as the same."""
    place = SECRETS.vault + HOST + _SIZE.pack(1)
    info = _decoded(signedbox.seal(chain.FORM, place, data, INDEX_KEY, SIGNER))
    assert info.snapshot == msgspec.msgpack.decode(data, type=Snapshot)
    again = _decoded(chain.encode_snapshot(info.snapshot, INDEX_KEY, SIGNER))
    assert again.snapshot == info.snapshot


def _snapshot_object(data: bytes) -> None:
    """Check that of what the storage may have only the writer's own bytes pass."""
    assert _decoded(data).snapshot.host == HOST


def _removal(data: bytes) -> None:
    """Check that a record has one meaning, and that no record makes a chain out of nothing."""
    place = SECRETS.vault + _SIZE.pack(1)
    authority = SigningKey(SECRETS.authority)
    sealed = signedbox.seal(removals.FORM, place, data, INDEX_KEY, authority)
    store = MemoryStore()
    store.put(layout.removal(SECRETS.vault, 1), [sealed])
    found = removals.read_removals(store, SECRETS.reader())
    record = removals.decode_record(sealed, INDEX_KEY, None, SECRETS.vault, 1)
    again = removals.encode_record(record, INDEX_KEY, authority)
    assert removals.decode_record(again, INDEX_KEY, None, SECRETS.vault, 1) == record
    chains = chain.Chains(store, SECRETS.vault, INDEX_KEY, {HOST: SIGNER.verify_key()})
    assert not [*chains.snapshots(found)]


def _removal_seeds() -> Iterator[bytes]:
    removed = (removals.Removed(HOST, 1, b"\1" * 32, bytes(32)),)
    first = removals.RemovalRecord(SECRETS.vault, 1, removals.NO_RECORD, TIME_NS, removed)
    yield msgspec.msgpack.encode(first)


def _removal_object(data: bytes) -> None:
    """Check that of what the storage may have only the authority's own bytes pass."""
    key = SECRETS.reader().authority_key()
    removals.decode_record(data, INDEX_KEY, key, SECRETS.vault, 1)


def _pack_record(data: bytes) -> None:
    """Check that a record of packs has one meaning, which writers and the pruner both take."""
    place = SECRETS.vault + _SIZE.pack(1)
    authority = SigningKey(SECRETS.authority)
    sealed = signedbox.seal(condemned.FORM, place, data, INDEX_KEY, authority)
    store = MemoryStore()
    store.put(layout.pack_record(SECRETS.vault, 1), [sealed])
    record = condemned.newest_record(store, SECRETS.vault, INDEX_KEY)
    again = condemned.encode_record(record, INDEX_KEY, authority)
    key = authority.verify_key()
    assert condemned.decode_record(again, INDEX_KEY, key, SECRETS.vault, 1) == record
    assert len(record.doomed()) <= len(record.condemned) + len(record.swept)


def _pack_record_seeds() -> Iterator[bytes]:
    leaving = (condemned.Leaving(PackId(b"\1" * 32), 5),)
    record = condemned.PackRecord(SECRETS.vault, 1, TIME_NS, leaving, leaving, leaving, 1)
    yield msgspec.msgpack.encode(record)


def _pack_record_object(data: bytes) -> None:
    """Check that of what the storage may have only the authority's own bytes pass."""
    key = SECRETS.reader().authority_key()
    condemned.decode_record(data, INDEX_KEY, key, SECRETS.vault, 1)


_NAME = b"\2" * holds.NAME_BYTES


def _hold(data: bytes) -> None:
    """Check that a hold, and a release, has one meaning."""
    authority = SigningKey(SECRETS.authority)
    place = SECRETS.vault + _NAME
    sealed = signedbox.seal(holds.HOLD, place, data, INDEX_KEY, authority)
    store = MemoryStore()
    store.put(layout.hold(SECRETS.vault, _NAME), [sealed])
    (hold,) = holds.read_holds(store, SECRETS.reader())
    hold.holds(SnapshotId(bytes(32)), TIME_NS)
    sealed = signedbox.seal(holds.RELEASE, place, data, INDEX_KEY, authority)
    store.put(layout.release(SECRETS.vault, _NAME), [sealed])
    assert not holds.read_holds(store, SECRETS.reader())


def _hold_seeds() -> Iterator[bytes]:
    yield msgspec.msgpack.encode(
        holds.Hold(SECRETS.vault, _NAME, (bytes(32),), TIME_NS, "why", "who", TIME_NS)
    )


def _hold_object(data: bytes) -> None:
    """Check that of what the storage may have only the authority's own bytes pass."""
    key = SECRETS.reader().authority_key()
    holds.decode_hold(data, INDEX_KEY, key, SECRETS.vault, _NAME)


def _enrolment(data: bytes) -> None:
    """Read an enrolment as its storage may have it."""
    name, _ = vector("enrolment")
    store = MemoryStore()
    store.put(name, [data])
    writer_name(store, SECRETS.vault, HOST, INDEX_KEY)
    check_enrolment(read_enrolment(store, name), SECRETS.reader().authority_key())


def _repository(data: bytes) -> None:
    """Read the first object of what somebody says is a repository."""
    store = MemoryStore()
    store.put(layout.REPOSITORY, [data])
    open_repository(store)


def _names(data: bytes) -> None:
    """Check that a name that is understood is the one name of what it names."""
    name = data.decode(errors="replace")
    id_ = layout.pack_id(name)
    assert id_ is None or layout.pack(id_) == name
    layout.index_id(name)
    layout.slot_vault(name)
    place = layout.snapshot_place(name)
    assert place is None or name.endswith(f"/{place[0].hex()}/{place[1]:016x}")


def _name_seeds() -> Iterator[bytes]:
    for kind in ("pack-data", "index", "snapshot", "enrolment", "keyslot-credential"):
        yield vector(kind)[0].encode()


TARGETS = (
    Target(
        "snapshot",
        ("agent.repository.chain:decode_snapshot",),
        _snapshot,
        errors=DAMAGED,
        seeds=_snapshot_plain,
    ),
    Target(
        "snapshot_object",
        ("agent.repository.chain:check_signature",),
        _snapshot_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1]],
    ),
    Target(
        "removal",
        ("agent.repository.removals:read_removals", "agent.repository.chain:Chains"),
        _removal,
        errors=(*DAMAGED, ChainBroken),
        seeds=_removal_seeds,
    ),
    Target(
        "removal_object",
        ("agent.repository.removals:decode_record", "agent.repository.signedbox:open_box"),
        _removal_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1].replace(chain.FORM.magic, removals.FORM.magic)],
    ),
    Target(
        "pack_record",
        ("agent.repository.condemned:newest_record",),
        _pack_record,
        errors=DAMAGED,
        seeds=_pack_record_seeds,
    ),
    Target(
        "pack_record_object",
        ("agent.repository.condemned:decode_record",),
        _pack_record_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1].replace(chain.FORM.magic, condemned.FORM.magic)],
    ),
    Target(
        "hold",
        ("agent.repository.holds:read_holds", "agent.repository.holds:decode_release"),
        _hold,
        errors=DAMAGED,
        seeds=_hold_seeds,
    ),
    Target(
        "hold_object",
        ("agent.repository.holds:decode_hold",),
        _hold_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1].replace(chain.FORM.magic, holds.HOLD.magic)],
    ),
    Target(
        "enrolment",
        ("agent.repository.vaults:read_enrolment",),
        _enrolment,
        errors=(*DAMAGED, WrongKey),
        seeds=lambda: [vector("enrolment")[1]],
    ),
    Target(
        "repository_object",
        ("agent.repository.vaults:open_repository",),
        _repository,
        errors=(NotARepository, RepositoryTooNew),
        seeds=lambda: [vector("repository")[1]],
    ),
    Target(
        "names",
        ("agent.repository.layout:pack_id", "agent.repository.layout:snapshot_place"),
        _names,
        seeds=_name_seeds,
        max_bytes=256,
    ),
)
