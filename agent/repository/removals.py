"""Which snapshots retention has removed: signed by the vault's authority, each after the last.

A snapshot that a verified record names does not exist, whether or not its object is still there.
The record keeps the links of what it names, so that a thinned chain still verifies from its first
snapshot to its newest (docs/format.md 8).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.crypto.secrets import ReaderKeys
from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import ChainBroken
from agent.model.ids import HostId, VaultId
from agent.repository import layout, signedbox
from agent.repository.fetch import get_bounded
from agent.repository.signedbox import Form
from agent.store.base import Store

FIRST_NUMBER = 1
NO_RECORD = bytes(32)  # `previous` of the first record
MAX_REMOVED = 4096  # of one record: about 400 KiB, under what a small object may have
FORM = Form(b"VITRGONE", b"vitrine removal 1", "a removal record", "the vault's authority")


class Removed(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot that was removed, with its link."""

    host: HostId
    sequence: int
    id: bytes
    previous: bytes  # the id before it in its chain


class RemovalRecord(msgspec.Struct, frozen=True):
    """The sealed body of one record."""

    vault: VaultId
    number: int  # counts from 1, without gaps
    previous: bytes  # BLAKE3 of the record object before, or NO_RECORD
    time_ns: int  # by the clock of who removed
    removed: tuple[Removed, ...]


class Removals(NamedTuple):
    """All records of a vault, verified."""

    removed: Mapping[tuple[HostId, int], Removed]
    ids: Sequence[bytes]  # of the record objects, in order

    @property
    def tip(self) -> bytes:
        """The id of the newest record, or NO_RECORD."""
        return self.ids[-1] if self.ids else NO_RECORD


NO_REMOVALS = Removals({}, ())


def encode_record(record: RemovalRecord, key: IndexKey, authority: SigningKey) -> bytes:
    """Return the bytes of a record's object."""
    if len(record.removed) > MAX_REMOVED:
        raise ValueError(f"{len(record.removed)} snapshots are more than one record holds")
    place = _place(record.vault, record.number)
    return signedbox.seal(FORM, place, msgspec.msgpack.encode(record), key, authority)


def decode_record(
    data: bytes, key: IndexKey, authority: VerifyKey | None, vault: VaultId, number: int
) -> RemovalRecord:
    """Return the record at this place; without `authority` who signed it is not looked at."""
    name, place = layout.removal(vault, number), _place(vault, number)
    record = signedbox.decode(FORM, place, data, key, authority, name, RemovalRecord)
    signedbox.check_place((record.vault, record.number), (vault, number), name)
    return record


def read_removals(store: Store, keys: ReaderKeys) -> Removals:
    """Return what was removed from a vault; see `removals_of`."""
    return removals_of(store, keys.vault, keys.index(), keys.authority_key())


def removals_of(
    store: Store, vault: VaultId, key: IndexKey, authority: VerifyKey | None
) -> Removals:
    """Return what was removed from a vault, every record verified.

    Raises ChainBroken where one is missing or does not follow, ObjectDamaged where one is damaged.
    """
    places = (layout.removal_number(listed.name) for listed in store.list(layout.removals(vault)))
    numbers = sorted(number for number in places if number is not None)
    removed: dict[tuple[HostId, int], Removed] = {}
    ids: list[bytes] = []
    for expected, number in enumerate(numbers, FIRST_NUMBER):
        if number != expected:
            raise _broken(vault, expected, "is missing from its chain")
        data = get_bounded(store, layout.removal(vault, number))
        record = decode_record(data, key, authority, vault, number)
        if record.previous != (ids[-1] if ids else NO_RECORD):
            raise _broken(vault, number, "does not follow the record before it")
        ids.append(object_name(data))
        removed.update(((one.host, one.sequence), one) for one in record.removed)
    return Removals(removed, ids)


def _broken(vault: VaultId, number: int, what: str) -> ChainBroken:
    return ChainBroken(
        f"{layout.removal(vault, number)} {what}",
        hint="a removal record was taken away or replaced: bring it back from a copy",
    )


def _place(vault: VaultId, number: int) -> bytes:
    return vault + number.to_bytes(8, "little")
