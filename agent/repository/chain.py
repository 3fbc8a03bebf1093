"""Snapshots: signed by their writer, chained to the one before, the only commit point.

Bytes (docs/format.md 7): "VITRSNAP", version, suite, 0 0, box length u32, box, signature (64).
The box opens with the index key.  Signature and box are both bound to vault, host and sequence,
so an object moved to another name is refused.
"""

import struct
from collections.abc import Iterator, Mapping

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.crypto.signing import SIGNATURE_BYTES, SigningKey, VerifyKey
from agent.errors import ChainBroken, ObjectDamaged, RepositoryTooNew
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, SnapshotId, VaultId
from agent.model.snapshot import FIRST_SEQUENCE, NO_PREVIOUS, Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.pack import SUITE
from agent.store.base import Store

MAGIC = b"VITRSNAP"
VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
_HEAD = struct.Struct("<8sBBxxI")
_PURPOSE = b"vitrine snapshot 1"


def encode_snapshot(snapshot: Snapshot, key: IndexKey, signer: SigningKey) -> bytes:
    """Return the bytes of a snapshot object."""
    place = _place(snapshot.vault, snapshot.host, snapshot.sequence)
    box = key.seal(msgspec.msgpack.encode(snapshot), _PURPOSE + place)
    body = _HEAD.pack(MAGIC, VERSION, SUITE, len(box)) + box
    return body + signer.sign(_PURPOSE, place + body)


def check_signature(
    data: bytes, verify: VerifyKey, vault: VaultId, host: HostId, sequence: int
) -> None:
    """Raise ObjectDamaged unless `host` signed these bytes for this place.  Needs no secret."""
    name = layout.snapshot(vault, host, sequence)
    _split(data, name)
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if not verify.verifies(signature, _PURPOSE, _place(vault, host, sequence) + body):
        raise ObjectDamaged(f"{name} is not signed by its writer: damaged, moved or forged")


def decode_snapshot(
    data: bytes, key: IndexKey, verify: VerifyKey, vault: VaultId, host: HostId, sequence: int
) -> SnapshotInfo:
    """Return the snapshot at this place, signature and seal verified."""
    name = layout.snapshot(vault, host, sequence)
    check_signature(data, verify, vault, host, sequence)
    plain = key.open(_split(data, name), _PURPOSE + _place(vault, host, sequence), name)
    try:
        snapshot = msgspec.msgpack.decode(plain, type=Snapshot)
    except UNDECODABLE as error:
        raise ObjectDamaged(f"{name} does not decode: {error}") from error
    if (snapshot.vault, snapshot.host, snapshot.sequence) != (vault, host, sequence):
        raise ObjectDamaged(f"{name} says it belongs somewhere else")
    unknown = set(snapshot.features) - KNOWN_FEATURES
    if unknown:
        raise RepositoryTooNew(
            f"{name} needs {', '.join(sorted(unknown))}", hint="install a newer Vitrine"
        )
    return SnapshotInfo(SnapshotId(object_name(data)), snapshot, len(data))


class Chains:
    """Reads and verifies the snapshots of one vault, whoever of its writers wrote them."""

    def __init__(
        self, store: Store, vault: VaultId, key: IndexKey, writers: Mapping[HostId, VerifyKey]
    ) -> None:
        """Take the writers that the vault's authority enrolled."""
        self._store = store
        self._vault = vault
        self._key = key
        self._writers = writers
        self._read: dict[tuple[HostId, int], SnapshotInfo] = {}

    def sequences(self) -> dict[HostId, list[int]]:
        """Return which snapshots each host has, in order; raise ChainBroken on a gap.

        Objects whose names are no snapshot's mean nothing and are passed over.
        """
        found: dict[HostId, list[int]] = {}
        for listed in self._store.list(layout.snapshots(self._vault)):
            place = layout.snapshot_place(listed.name)
            if place is not None:
                found.setdefault(place[0], []).append(place[1])
        for host, sequences in found.items():
            sequences.sort()
            _check_gaps(self._vault, host, sequences)
        return found

    def snapshots(self) -> Iterator[SnapshotInfo]:
        """Yield every snapshot, host by host in order; raise ChainBroken where a link is wrong."""
        for host, sequences in self.sequences().items():
            previous: SnapshotInfo | None = None
            for sequence in sequences:
                info = self.read(host, sequence)
                _check_link(info, previous)
                previous = info
                yield info

    def read(self, host: HostId, sequence: int) -> SnapshotInfo:
        """Return one snapshot, signature and seal verified, its link not."""
        known = self._read.get((host, sequence))
        if known is None:
            name = layout.snapshot(self._vault, host, sequence)
            verify = self._writers.get(host)
            if verify is None:
                raise ChainBroken(f"{name} is by a writer that was never enrolled")
            data = get_bounded(self._store, name)
            known = decode_snapshot(data, self._key, verify, self._vault, host, sequence)
            self._read[host, sequence] = known
        return known


def find_tip(store: Store, vault: VaultId, host: HostId, verify: VerifyKey) -> tuple[int, bytes]:
    """Return sequence and id of a writer's last snapshot; (0, NO_PREVIOUS) before its first.

    Raises ObjectDamaged where that writer did not sign it: nothing may be chained to a forgery.
    """
    places = (layout.snapshot_place(o.name) for o in store.list(layout.host_snapshots(vault, host)))
    last = max((place[1] for place in places if place is not None), default=0)
    if last < FIRST_SEQUENCE:
        return 0, NO_PREVIOUS
    data = get_bounded(store, layout.snapshot(vault, host, last))
    check_signature(data, verify, vault, host, last)
    return last, object_name(data)


def _check_gaps(vault: VaultId, host: HostId, sequences: list[int]) -> None:
    """Raise ChainBroken unless the chain is whole from its first snapshot on."""
    expected = range(FIRST_SEQUENCE, FIRST_SEQUENCE + len(sequences))
    for wanted, found in zip(expected, sequences, strict=True):
        if wanted != found:
            raise ChainBroken(
                f"{layout.snapshot(vault, host, wanted)} is missing from its chain",
                hint="a snapshot was removed from the repository: bring it back from a copy",
            )


def _check_link(info: SnapshotInfo, previous: SnapshotInfo | None) -> None:
    snapshot = info.snapshot
    expected = NO_PREVIOUS if previous is None else previous.id
    if snapshot.previous != expected:
        name = layout.snapshot(snapshot.vault, snapshot.host, snapshot.sequence)
        raise ChainBroken(f"{name} does not follow the snapshot before it")


def _split(data: bytes, name: str) -> memoryview:
    """Return the box of a snapshot object."""
    if len(data) < _HEAD.size + SIGNATURE_BYTES:
        raise ObjectDamaged(f"{name} is cut short")
    magic, version, suite, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ObjectDamaged(f"{name} is not a snapshot")
    if version != VERSION or suite != SUITE:
        raise RepositoryTooNew(f"{name} has version {version}, suite {suite}; known are 1 and 1")
    if len(data) != _HEAD.size + length + SIGNATURE_BYTES:
        raise ObjectDamaged(f"{name} has the wrong length")
    return memoryview(data)[_HEAD.size : _HEAD.size + length]


def _place(vault: VaultId, host: HostId, sequence: int) -> bytes:
    return vault + host + sequence.to_bytes(8, "little")
