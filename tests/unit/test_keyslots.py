"""Keyslots: the right holder opens, nobody else, and a hostile slot costs nothing."""

import unicodedata

import msgspec
import pytest

from agent.crypto import keyslots
from agent.crypto.keyslots import (
    MAX_ITERATIONS,
    MAX_LANES,
    MAX_MEMORY_KIB,
    PassphraseCost,
    Slot,
    decode_slot,
    encode_slot,
    unwrap_with_credential,
    unwrap_with_passphrase,
    wrap_for_credential,
    wrap_for_passphrase,
)
from agent.crypto.naming import object_name
from agent.crypto.secrets import VaultSecrets
from agent.errors import ObjectDamaged, RepositoryTooNew, WrongKey
from agent.model.ids import VaultId
from tests.fakes.vaults import CHEAP

SECRETS = VaultSecrets.generate("radiology", "Radiology", 3)
CREDENTIAL = b"c" * 32
BY_PASSPHRASE = wrap_for_passphrase(SECRETS, "pass", "recovery", CHEAP)
BY_CREDENTIAL = wrap_for_credential(SECRETS, CREDENTIAL, "gate")


def test_each_holder_opens_the_slot_made_for_them() -> None:
    """Both kinds survive encoding and give the same secrets."""
    assert unwrap_with_passphrase(decode_slot(encode_slot(BY_PASSPHRASE)), "pass") == SECRETS
    assert unwrap_with_credential(decode_slot(encode_slot(BY_CREDENTIAL)), CREDENTIAL) == SECRETS


def test_the_wrong_passphrase_or_credential_is_told_as_such() -> None:
    """WrongKey, whatever is wrong with it."""
    for wrong in ("", "Pass", "pass ", "pass\udcff"):
        with pytest.raises(WrongKey):
            unwrap_with_passphrase(BY_PASSPHRASE, wrong)
    for credential in (b"", b"d" * 32, CREDENTIAL + b"c"):
        with pytest.raises(WrongKey):
            unwrap_with_credential(BY_CREDENTIAL, credential)


def test_a_slot_of_the_other_kind_does_not_open() -> None:
    """A credential opens no passphrase slot and the other way round."""
    with pytest.raises(WrongKey):
        unwrap_with_credential(BY_PASSPHRASE, CREDENTIAL)
    with pytest.raises(WrongKey):
        unwrap_with_passphrase(BY_CREDENTIAL, "pass")


def test_however_a_keyboard_composes_it_a_passphrase_is_the_same() -> None:
    """Unicode NFKC: composed, decomposed and full-width forms are equal."""
    composed = "Z\u00fcrich \u2460"
    slot = wrap_for_passphrase(SECRETS, composed, "recovery", CHEAP)
    for form in (unicodedata.normalize("NFD", composed), "Zu\u0308rich 1"):
        assert unwrap_with_passphrase(slot, form) == SECRETS


@pytest.mark.parametrize(
    "cost",
    [
        PassphraseCost(MAX_MEMORY_KIB + 1, 1, 1),
        PassphraseCost(64, MAX_ITERATIONS + 1, 1),
        PassphraseCost(8 * (MAX_LANES + 1), 1, MAX_LANES + 1),
        PassphraseCost(7, 1, 1),
        PassphraseCost(64, 0, 1),
        PassphraseCost(64, 1, 0),
        PassphraseCost(-1, -1, -1),
        PassphraseCost(2**63, 1, 1),
    ],
)
def test_a_hostile_cost_is_refused_before_it_is_paid(cost: PassphraseCost) -> None:
    """A slot in the repository must not make a bare machine swap or hang."""
    slot = msgspec.structs.replace(BY_PASSPHRASE, cost=cost)
    with pytest.raises(ObjectDamaged, match="cost"):
        unwrap_with_passphrase(slot, "pass")


def test_a_slot_without_cost_or_with_an_odd_salt_is_damaged() -> None:
    """Nothing is guessed."""
    for slot in (
        msgspec.structs.replace(BY_PASSPHRASE, cost=None),
        msgspec.structs.replace(BY_PASSPHRASE, salt=b"short"),
        msgspec.structs.replace(BY_PASSPHRASE, salt=bytes(10_000)),
    ):
        with pytest.raises(ObjectDamaged):
            unwrap_with_passphrase(slot, "pass")


def test_too_little_memory_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that could not be tried is not called wrong."""
    monkeypatch.setattr(keyslots, "Argon2id", _Starved)
    with pytest.raises(WrongKey, match="memory"):
        unwrap_with_passphrase(BY_PASSPHRASE, "pass")


def test_every_changed_field_keeps_the_slot_shut() -> None:
    """The whole clear header is bound to the box."""
    for changed in (
        msgspec.structs.replace(BY_CREDENTIAL, label="recovery"),
        msgspec.structs.replace(BY_CREDENTIAL, vault=VaultId(bytes(16))),
        msgspec.structs.replace(BY_CREDENTIAL, box=BY_CREDENTIAL.box[:-1]),
        msgspec.structs.replace(BY_CREDENTIAL, box=b""),
    ):
        with pytest.raises(WrongKey):
            unwrap_with_credential(changed, CREDENTIAL)


def test_every_truncation_and_hostile_encoding_is_damage() -> None:
    """Nothing of msgspec's or Python's own escapes."""
    data = encode_slot(BY_PASSPHRASE)
    nested = b"\x81\xa1z" + b"\x91" * 100_000 + b"\xc0"
    sealed = [part + object_name(part) for part in (nested, b"\xc1", b"\x80", b"")]
    for hostile in [data[:length] for length in range(len(data))] + sealed:
        with pytest.raises(ObjectDamaged):
            decode_slot(hostile)


def test_a_flipped_byte_anywhere_is_noticed_without_the_passphrase() -> None:
    """A recovery slot that rots is found by a scrub, not on the day of the fire."""
    data = encode_slot(BY_PASSPHRASE)
    for at in range(len(data)):
        with pytest.raises(ObjectDamaged):
            decode_slot(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_later_version_is_refused_and_a_later_kind_is_not_ours() -> None:
    """Further kinds of slot may come without a new version: they open with neither."""
    with pytest.raises(RepositoryTooNew):
        decode_slot(encode_slot(msgspec.structs.replace(BY_PASSPHRASE, version=2)))
    later = decode_slot(encode_slot(msgspec.structs.replace(BY_PASSPHRASE, kind="pkcs11")))
    with pytest.raises(WrongKey):
        unwrap_with_passphrase(later, "pass")


def test_a_slot_that_holds_another_vaults_secrets_is_refused() -> None:
    """Who can seal to a credential cannot make one vault open as another."""
    other = VaultSecrets.generate("records", "Records", 2)
    slot = Slot(1, "credential", other.vault, BY_CREDENTIAL.slot, "gate", b"")
    forged = keyslots._sealed(slot, keyslots._credential_key(CREDENTIAL), SECRETS)
    with pytest.raises(WrongKey):
        unwrap_with_credential(forged, CREDENTIAL)


class _Starved:
    """Argon2id on a machine without memory."""

    def __init__(self, **cost: object) -> None:
        self.cost = cost

    def derive(self, _key_material: bytes) -> bytes:
        raise MemoryError
