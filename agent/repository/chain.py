"""Snapshots: signed by their writer, chained to the one before, the only commit point.

The box opens with the index key.  Signature and box are both bound to vault, host and sequence,
so an object moved to another name is refused (docs/format.md 7).
"""

from collections.abc import Iterator, Mapping

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import ChainBroken, RepositoryTooNew
from agent.model.ids import HostId, SnapshotId, VaultId
from agent.model.snapshot import FIRST_SEQUENCE, NO_PREVIOUS, Snapshot, SnapshotInfo
from agent.repository import layout, signedbox
from agent.repository.fetch import get_bounded
from agent.repository.removals import NO_REMOVALS, Removals
from agent.repository.signedbox import Form
from agent.store.base import Store

KNOWN_FEATURES: frozenset[str] = frozenset()
FORM = Form(b"VITRSNAP", b"vitrine snapshot 1", "a snapshot", "its writer")


def encode_snapshot(snapshot: Snapshot, key: IndexKey, signer: SigningKey) -> bytes:
    """Return the bytes of a snapshot object."""
    place = _place(snapshot.vault, snapshot.host, snapshot.sequence)
    return signedbox.seal(FORM, place, msgspec.msgpack.encode(snapshot), key, signer)


def check_signature(
    data: bytes, verify: VerifyKey, vault: VaultId, host: HostId, sequence: int
) -> None:
    """Raise ObjectDamaged unless `host` signed these bytes for this place.  Needs no secret."""
    name = layout.snapshot(vault, host, sequence)
    signedbox.check_signature(FORM, _place(vault, host, sequence), data, verify, name)


def decode_snapshot(
    data: bytes, key: IndexKey, verify: VerifyKey, vault: VaultId, host: HostId, sequence: int
) -> SnapshotInfo:
    """Return the snapshot at this place, signature and seal verified."""
    name = layout.snapshot(vault, host, sequence)
    place = _place(vault, host, sequence)
    snapshot = signedbox.decode(FORM, place, data, key, verify, name, Snapshot)
    said = (snapshot.vault, snapshot.host, snapshot.sequence)
    signedbox.check_place(said, (vault, host, sequence), name)
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

    def sequences(self, removals: Removals = NO_REMOVALS) -> dict[HostId, list[int]]:
        """Return which snapshots each host has that were not removed, in order.

        Raises ChainBroken on a gap that no removal explains.  Objects whose names are no
        snapshot's mean nothing and are passed over.
        """
        found: dict[HostId, list[int]] = {}
        for listed in self._store.list(layout.snapshots(self._vault)):
            place = layout.snapshot_place(listed.name)
            if place is not None and place not in removals.removed:
                found.setdefault(place[0], []).append(place[1])
        for host, _ in removals.removed:
            found.setdefault(host, [])
        for host, sequences in found.items():
            sequences.sort()
            _check_gaps(self._vault, host, sequences, removals)
        return found

    def snapshots(self, removals: Removals = NO_REMOVALS) -> Iterator[SnapshotInfo]:
        """Yield every snapshot that was not removed, host by host in order.

        Raises ChainBroken where a link is wrong, over what was removed as well.
        """
        for host, sequences in self.sequences(removals).items():
            known, previous = FIRST_SEQUENCE - 1, NO_PREVIOUS
            for sequence in sequences:
                previous = self._skip(host, range(known + 1, sequence), previous, removals)
                info = self.read(host, sequence)
                _check_link(info, previous)
                known, previous = sequence, info.id
                yield info

    def _skip(self, host: HostId, gap: range, previous: bytes, removals: Removals) -> bytes:
        """Return the id of the last removed snapshot in a gap, the links followed."""
        for sequence in gap:
            gone = removals.removed[host, sequence]
            if gone.previous != previous:
                name = layout.snapshot(self._vault, host, sequence)
                raise ChainBroken(f"{name} was removed, and did not follow the one before it")
            previous = gone.id
        return previous

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


def _check_gaps(vault: VaultId, host: HostId, sequences: list[int], removals: Removals) -> None:
    """Raise ChainBroken unless the chain is whole from its first snapshot on."""
    present = set(sequences)
    last = max((n for of, n in removals.removed if of == host), default=0)
    newest = max(sequences[-1] if sequences else 0, last + 1)  # the newest is never removed
    for wanted in range(FIRST_SEQUENCE, newest + 1):
        if wanted not in present and (host, wanted) not in removals.removed:
            raise ChainBroken(
                f"{layout.snapshot(vault, host, wanted)} is missing from its chain",
                hint="a snapshot was removed from the repository: bring it back from a copy",
            )


def _check_link(info: SnapshotInfo, previous: bytes) -> None:
    snapshot = info.snapshot
    if snapshot.previous != previous:
        name = layout.snapshot(snapshot.vault, snapshot.host, snapshot.sequence)
        raise ChainBroken(f"{name} does not follow the snapshot before it")


def _place(vault: VaultId, host: HostId, sequence: int) -> bytes:
    return vault + host + sequence.to_bytes(8, "little")
