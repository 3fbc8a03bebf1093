"""Vaults: found by passphrase, written to by who was enrolled, and robust against strays."""

from collections.abc import Callable

import msgspec
import pytest

from agent.crypto.keyslots import PassphraseCost, encode_slot, wrap_for_credential
from agent.crypto.signing import SigningKey
from agent.errors import (
    NotARepository,
    NotFound,
    ObjectDamaged,
    ObjectExists,
    RepositoryTooNew,
    WrongKey,
)
from agent.model.ids import SlotId
from agent.repository import layout
from agent.repository.vaults import (
    add_slot,
    create_repository,
    enrol_writer,
    enrolled_writers,
    open_repository,
    secrets_by_passphrase,
    slots,
    vault_ids,
    writer_name,
)
from agent.store.memory import MemoryStore
from tests.fakes.vaults import PASSPHRASE, make_vault, make_writer


@pytest.fixture
def store() -> MemoryStore:
    """Return an empty store."""
    return MemoryStore()


def test_a_repository_is_made_once(store: MemoryStore) -> None:
    """What is there is not overwritten."""
    info = create_repository(store, 5)
    assert open_repository(store) == info
    with pytest.raises(ObjectExists):
        create_repository(store, 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"z":' + b"[" * 100_000,
        b'{"format":"restic","version":1,"id":"","created_ns":1}',
        b'{"format":"\xff","version":1,"id":"","created_ns":1}',
    ],
)
def test_what_is_not_ours_is_told(store: MemoryStore, data: bytes) -> None:
    """Another program's file called `repository` is no crash."""
    store.put(layout.REPOSITORY, [data])
    with pytest.raises(NotARepository):
        open_repository(store)


def test_nothing_there_is_no_repository(store: MemoryStore) -> None:
    """With a hint how to make one."""
    with pytest.raises(NotARepository) as caught:
        open_repository(store)
    assert "vitrine init" in caught.value.hint


def test_a_later_version_is_too_new(store: MemoryStore) -> None:
    """And nothing is touched."""
    store.put(layout.REPOSITORY, [b'{"format":"vitrine","version":2,"id":"","created_ns":1}'])
    with pytest.raises(RepositoryTooNew, match="version 2"):
        open_repository(store)


def test_a_passphrase_finds_its_vault_by_name(store: MemoryStore) -> None:
    """Names lie inside the slots."""
    radiology, _ = make_vault(store)
    records, _ = make_vault(store, "records")
    assert secrets_by_passphrase(store, "records", PASSPHRASE) == records
    assert secrets_by_passphrase(store, "radiology", PASSPHRASE) == radiology
    assert vault_ids(store) == {radiology.vault, records.vault}


def test_a_wrong_passphrase_and_a_wrong_name_are_told_apart(store: MemoryStore) -> None:
    """Who holds the passphrase may hear which vaults it opens."""
    make_vault(store)
    with pytest.raises(WrongKey):
        secrets_by_passphrase(store, "radiology", "wrong")
    with pytest.raises(NotFound) as caught:
        secrets_by_passphrase(store, "cardiology", PASSPHRASE)
    assert "radiology" in caught.value.hint


def test_no_vault_name_shows_in_the_repository(store: MemoryStore) -> None:
    """Neither in names nor in bytes."""
    make_vault(store, "oncology")
    for listed in store.list(""):
        assert "oncology" not in listed.name
        assert b"oncology" not in store.get(listed.name)


def test_a_damaged_or_moved_slot_does_not_keep_others_from_opening(
    store: MemoryStore, expect_log: Callable[..., None]
) -> None:
    """Slots are independent of each other."""
    secrets, _ = make_vault(store)
    (ours,) = slots(store, secrets.vault)
    other, _ = make_vault(store, "records")
    (theirs,) = slots(store, other.vault)
    later = msgspec.structs.replace(theirs, version=2)
    for number, data in enumerate((b"", b"junk", encode_slot(theirs), encode_slot(later))):
        store.put(layout.slot(secrets.vault, SlotId(bytes([number]) * 16)), [data])
    expect_log("is passed over")
    assert list(slots(store, secrets.vault)) == [ours]
    assert secrets_by_passphrase(store, "radiology", PASSPHRASE) == secrets


def test_a_slot_of_hostile_cost_is_told_only_if_nothing_opens(store: MemoryStore) -> None:
    """A planted slot neither hangs a recovery nor hides why it failed."""
    secrets, _ = make_vault(store)
    (slot,) = slots(store, secrets.vault)
    planted = msgspec.structs.replace(
        slot, slot=SlotId(bytes(16)), cost=PassphraseCost(2**40, 2**20, 1)
    )
    store.put(layout.slot(secrets.vault, planted.slot), [encode_slot(planted)])
    assert secrets_by_passphrase(store, "radiology", PASSPHRASE) == secrets
    with pytest.raises(ObjectDamaged, match="cost"):
        secrets_by_passphrase(store, "radiology", "wrong")


def test_strays_among_the_vaults_mean_nothing(store: MemoryStore) -> None:
    """A name that is no vault's is passed over."""
    secrets, _ = make_vault(store)
    store.put("vaults/readme.txt", [b"x"])
    store.put("vaults/zz/slots/00", [b"x"])
    assert vault_ids(store) == {secrets.vault}


def test_a_revoked_slot_opens_no_more_and_others_do(store: MemoryStore) -> None:
    """Deleting one slot is all."""
    secrets, _ = make_vault(store)
    gate = wrap_for_credential(secrets, b"c" * 32, "gate")
    add_slot(store, gate)
    (recovery,) = (slot for slot in slots(store, secrets.vault) if slot.kind == "passphrase")
    store.delete(layout.slot(secrets.vault, recovery.slot))
    with pytest.raises(WrongKey):
        secrets_by_passphrase(store, "radiology", PASSPHRASE)
    assert list(slots(store, secrets.vault)) == [gate]


# -- writers --------------------------------------------------------------------------------------


def test_enrolled_writers_are_known_by_key_and_name(store: MemoryStore) -> None:
    """The authority's word, readable with the index key."""
    secrets, keys = make_vault(store)
    other = make_writer(store, secrets, "pacs2")
    found = enrolled_writers(store, secrets.vault, secrets.reader().authority_key())
    assert {host: key.raw for host, key in found.items()} == {
        k.host(): k.signer().verify_key().raw for k in (keys, other)
    }
    assert writer_name(store, secrets.vault, other.host(), keys.index()) == "pacs2"


def test_a_writer_that_another_authority_enrolled_is_refused(store: MemoryStore) -> None:
    """A forged enrolment is not passed over: somebody wrote it."""
    secrets, _ = make_vault(store)
    forger = msgspec.structs.replace(secrets, authority=SigningKey.generate().raw)
    enrol_writer(store, forger, "evil", SigningKey.generate().verify_key().raw)
    with pytest.raises(ObjectDamaged, match="authority"):
        enrolled_writers(store, secrets.vault, secrets.reader().authority_key())


def test_an_enrolment_does_not_move_to_another_vault_or_host(store: MemoryStore) -> None:
    """Even where both vaults had one authority."""
    secrets, keys = make_vault(store)
    other, _ = make_vault(store, "records")
    data = store.get(layout.writer(secrets.vault, keys.host()))
    store.put(layout.writer(other.vault, keys.host()), [data])
    authority = secrets.reader().authority_key()
    with pytest.raises(ObjectDamaged):
        enrolled_writers(store, other.vault, authority)
    store.put(layout.writers(secrets.vault) + "ab" * 16, [data])
    with pytest.raises(ObjectDamaged):
        enrolled_writers(store, secrets.vault, authority)


def test_every_flip_and_truncation_of_an_enrolment_is_damage() -> None:
    """Or does not change what it says."""
    clean = MemoryStore()
    secrets, keys = make_vault(clean)
    name = layout.writer(secrets.vault, keys.host())
    data = clean.get(name)
    authority = secrets.reader().authority_key()
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1
        for hostile in (bytes(flipped), data[:position]):
            store = MemoryStore()
            store.put(name, [hostile])
            with pytest.raises(ObjectDamaged):
                enrolled_writers(store, secrets.vault, authority)
    store = MemoryStore()
    store.put(name, [b"\x81\xa1z" + b"\x91" * 100_000 + b"\xc0"])
    with pytest.raises(ObjectDamaged):
        enrolled_writers(store, secrets.vault, authority)
