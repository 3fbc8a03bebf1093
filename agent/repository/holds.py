"""Holds: snapshots that must stay, until a day or until they are released; signed, append-only.

A hold and its release are two objects by one random name (docs/format.md 11), so that who keeps the
storage cannot undo a hold but by taking it away, which whoever has seen it notices.
"""

import os
from collections.abc import Iterable

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.secrets import ReaderKeys
from agent.crypto.signing import SigningKey, VerifyKey
from agent.model.ids import SnapshotId, VaultId
from agent.repository import layout, signedbox
from agent.repository.fetch import get_bounded
from agent.repository.signedbox import Form
from agent.store.base import Store

NAME_BYTES = 16
MAX_HELD = 8192  # of one hold: about 280 KiB
HOLD = Form(b"VITRHOLD", b"vitrine hold 1", "a hold", "the vault's authority")
RELEASE = Form(b"VITRFREE", b"vitrine release 1", "a release of a hold", "the vault's authority")


class Hold(msgspec.Struct, frozen=True):
    """What must stay, and why."""

    vault: VaultId
    name: bytes
    snapshots: tuple[bytes, ...]  # ids; none: every one there is or will be
    until_ns: int  # 0: until it is released
    reason: str
    by: str
    time_ns: int

    def holds(self, snapshot: SnapshotId, now_ns: int) -> bool:
        """Tell whether a snapshot must stay because of this."""
        is_over = self.until_ns and now_ns >= self.until_ns
        return not is_over and (not self.snapshots or snapshot in self.snapshots)


class Release(msgspec.Struct, frozen=True):
    """The end of a hold."""

    vault: VaultId
    name: bytes
    reason: str
    by: str
    time_ns: int


def new_name() -> bytes:
    """Return a random name for a hold."""
    return os.urandom(NAME_BYTES)


def put_hold(store: Store, hold: Hold, key: IndexKey, authority: SigningKey) -> None:
    """Store a hold; raise ValueError for one of more than MAX_HELD snapshots.

    A larger object nobody would read, and then nothing of the vault could be removed any more.
    """
    if len(hold.snapshots) > MAX_HELD:
        raise ValueError(f"{len(hold.snapshots)} snapshots are more than one hold holds")
    plain = msgspec.msgpack.encode(hold)
    data = signedbox.seal(HOLD, hold.vault + hold.name, plain, key, authority)
    store.put(layout.hold(hold.vault, hold.name), [data])


def put_release(store: Store, release: Release, key: IndexKey, authority: SigningKey) -> None:
    """Store the release of a hold."""
    plain = msgspec.msgpack.encode(release)
    data = signedbox.seal(RELEASE, release.vault + release.name, plain, key, authority)
    store.put(layout.release(release.vault, release.name), [data])


def read_holds(store: Store, keys: ReaderKeys) -> list[Hold]:
    """Return the holds that were not released, each verified, oldest first.

    Raises ObjectDamaged where one is damaged: then nobody knows what must stay.
    """
    key, authority = keys.index(), keys.authority_key()
    released = {
        decode_release(get_bounded(store, listed.name), key, authority, keys.vault, name).name
        for listed in store.list(layout.releases(keys.vault))
        if (name := layout.hold_name(listed.name)) is not None
    }
    found = (
        decode_hold(get_bounded(store, listed.name), key, authority, keys.vault, name)
        for listed in store.list(layout.holds(keys.vault))
        if (name := layout.hold_name(listed.name)) is not None
    )
    return sorted(
        (hold for hold in found if hold.name not in released),
        key=lambda hold: (hold.time_ns, hold.name),
    )


def released_names(store: Store, vault: VaultId) -> set[bytes]:
    """Return the names that have a release; its signature is not looked at."""
    found = (layout.hold_name(listed.name) for listed in store.list(layout.releases(vault)))
    return {name for name in found if name is not None}


def held_by(holds: Iterable[Hold], snapshot: SnapshotId, now_ns: int) -> str:
    """Return the reason of the first hold on a snapshot; empty where there is none."""
    return next((hold.reason for hold in holds if hold.holds(snapshot, now_ns)), "")


def decode_hold(
    data: bytes, key: IndexKey, authority: VerifyKey, vault: VaultId, name: bytes
) -> Hold:
    """Return the hold at this place, signature and seal verified."""
    place = layout.hold(vault, name)
    hold = signedbox.decode(HOLD, vault + name, data, key, authority, place, Hold)
    signedbox.check_place((hold.vault, hold.name), (vault, name), place)
    return hold


def decode_release(
    data: bytes, key: IndexKey, authority: VerifyKey, vault: VaultId, name: bytes
) -> Release:
    """Return the release at this place, signature and seal verified."""
    place = layout.release(vault, name)
    release = signedbox.decode(RELEASE, vault + name, data, key, authority, place, Release)
    signedbox.check_place((release.vault, release.name), (vault, name), place)
    return release
