"""Which packs are on their way out: written by maintenance, heeded by every writer.

A pack that no snapshot needs is first noted, then condemned, then deleted, with a wait before each
step (docs/format.md 9, docs/decisions/0015-prune.md).  From the moment a pack is condemned writers
rely on it no more: what only such packs hold they store again.
"""

from typing import Final

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import ObjectDamaged, ObjectMissing, StoreUnavailable
from agent.model.ids import PackId, VaultId
from agent.repository import layout, signedbox
from agent.repository.fetch import MiB, get_bounded
from agent.repository.signedbox import Form
from agent.store.base import Store

MAX_RECORD_BYTES: Final = 64 * MiB  # a million packs on their way out: 32 TB
LEASE_S: Final = 24 * 3600.0  # what a writer read of index and record holds for so long
MIN_GRACE_NS: Final = 3 * 24 * 3600 * 10**9  # between condemned and deleted: three leases
REMEMBERED: Final = 30  # a deleted pack is listed in at least so many records
_MAX_NUMBER: Final = 2**62  # one forged above it is not followed, lest numbers come to an end
LOOKS: Final = 8  # at records that maintenance replaces meanwhile; it does so once a run
FORM = Form(b"VITRCOND", b"vitrine condemned 1", "a record of packs", "the vault's authority")


class Leaving(msgspec.Struct, frozen=True, array_like=True):
    """A pack on its way out, and for how long it has been at this step."""

    pack: PackId
    age_ns: int = 0  # added up run by run, each run's share bounded: no clock can jump ahead


class PackRecord(msgspec.Struct, frozen=True):
    """The sealed body of one record; the newest counts."""

    vault: VaultId
    number: int
    time_ns: int  # by the clock of maintenance
    unreferenced: tuple[Leaving, ...] = ()  # in no snapshot; still relied upon by writers
    condemned: tuple[Leaving, ...] = ()  # relied upon no more
    swept: tuple[Leaving, ...] = ()  # deleted, or about to be
    condemning: int = 0  # the newest record that condemned a pack: for who looks after long

    def doomed(self) -> frozenset[PackId]:
        """Return the packs that no writer may rely on."""
        return frozenset(one.pack for one in (*self.condemned, *self.swept))


def encode_record(record: PackRecord, key: IndexKey, authority: SigningKey) -> bytes:
    """Return the bytes of a record's object."""
    place = _place(record.vault, record.number)
    return signedbox.seal(FORM, place, msgspec.msgpack.encode(record), key, authority)


def decode_record(
    data: bytes, key: IndexKey, authority: VerifyKey | None, vault: VaultId, number: int
) -> PackRecord:
    """Return the record at this place; without `authority` who signed it is not looked at."""
    name, place = layout.pack_record(vault, number), _place(vault, number)
    record = signedbox.decode(FORM, place, data, key, authority, name, PackRecord)
    signedbox.check_place((record.vault, record.number), (vault, number), name)
    return record


def record_numbers(store: Store, vault: VaultId) -> list[int]:
    """Return the numbers of the records that are there, in order."""
    found = (layout.pack_record_number(one.name) for one in store.list(layout.pack_records(vault)))
    return sorted(number for number in found if number is not None)


def newest_record(
    store: Store, vault: VaultId, key: IndexKey, authority: VerifyKey | None = None
) -> PackRecord:
    """Return the newest record; one without packs, number 0, before the first prune.

    Writers have no authority key: another writer of the vault could make them store things again,
    and no more.  Raises ObjectDamaged: without the record nobody knows what may be relied on.
    """
    for _ in range(LOOKS):
        numbers = record_numbers(store, vault)
        if not numbers:
            return PackRecord(vault, 0, 0)
        name = layout.pack_record(vault, numbers[-1])
        try:
            data = get_bounded(store, name, MAX_RECORD_BYTES)
        except ObjectMissing:
            continue  # a newer one had come, and this one went
        return decode_record(data, key, authority, vault, numbers[-1])
    raise StoreUnavailable("records of packs come and go faster than they can be read")


def last_genuine(store: Store, vault: VaultId, key: IndexKey, authority: VerifyKey) -> PackRecord:
    """Return the record that the next one follows: the newest that the authority signed.

    For maintenance.  Damaged ones and forgeries are passed over, for else who can put an object
    could end pruning for good.  What they said nobody knows: the record returned then has a number
    beyond theirs by REMEMBERED, and condemns with it, so that no run or journal from before is
    taken for unaffected.
    """
    beyond = 0
    record = PackRecord(vault, 0, 0)
    for number in reversed(record_numbers(store, vault)):
        try:
            data = get_bounded(store, layout.pack_record(vault, number), MAX_RECORD_BYTES)
            record = decode_record(data, key, authority, vault, number)
            break
        except (ObjectDamaged, ObjectMissing):
            beyond = max(beyond, min(number, _MAX_NUMBER))
    if not beyond:
        return record
    number = beyond + REMEMBERED
    return msgspec.structs.replace(record, number=number, condemning=number)


def _place(vault: VaultId, number: int) -> bytes:
    return vault + number.to_bytes(8, "little")
