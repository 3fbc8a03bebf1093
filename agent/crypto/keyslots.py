"""Keyslots: ways to unwrap a vault's secrets, each for one holder (docs/format.md 2).

A slot is a clear header (which kind, which parameters) and a box under the key that the holder
brings: a credential's 32 bytes, or Argon2id (RFC 9106) of a passphrase.  Slots are independent:
removing one revokes it, for no two share a key.
"""

import os
import unicodedata

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from agent.crypto.box import BoxKey
from agent.crypto.naming import derive, object_name
from agent.crypto.secrets import VaultSecrets
from agent.crypto.turn import ARGON2_TURN
from agent.errors import ObjectDamaged, RepositoryTooNew, WrongKey
from agent.model.decoding import UNDECODABLE
from agent.model.ids import SlotId, VaultId

VERSION = 1
CREDENTIAL_BYTES = 32
CREDENTIAL = "credential"
PASSPHRASE = "passphrase"  # noqa: S105 - a kind of slot, no secret
MAX_MEMORY_KIB = 2 * 1024 * 1024  # a hostile slot must not ask for more than RFC 9106's 2 GiB
MAX_ITERATIONS = 64
MAX_LANES = 16
MAX_SALT_BYTES = 64
_DIGEST_BYTES = 32
_CREDENTIAL_CONTEXT = "vitrine 2026-11 keyslot credential"


class PassphraseCost(msgspec.Struct, frozen=True):
    """What a guess costs.  Default: RFC 9106 section 4, second choice, doubled, a pass more."""

    memory_kib: int = 128 * 1024
    iterations: int = 4
    lanes: int = 4


class Slot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A keyslot object."""

    version: int
    kind: str  # CREDENTIAL, PASSPHRASE, or what a later program knows how to open
    vault: VaultId
    slot: SlotId
    label: str  # "gate", "recovery": a role, never a person
    box: bytes
    salt: bytes = b""
    cost: PassphraseCost | None = None

    def context(self) -> bytes:
        """Return what the box is bound to: everything in the header."""
        return msgspec.msgpack.encode(msgspec.structs.replace(self, box=b""))


def wrap_for_credential(secrets: VaultSecrets, credential: bytes, label: str) -> Slot:
    """Return a slot that the holder of `credential` (32 random bytes) can open."""
    slot = Slot(VERSION, CREDENTIAL, secrets.vault, SlotId(os.urandom(16)), label, b"")
    return _sealed(slot, _credential_key(credential), secrets)


def wrap_for_passphrase(
    secrets: VaultSecrets, passphrase: str, label: str, cost: PassphraseCost | None = None
) -> Slot:
    """Return a slot that `passphrase` can open; it is compared after Unicode NFKC."""
    cost = cost or PassphraseCost()
    slot = Slot(
        VERSION,
        PASSPHRASE,
        secrets.vault,
        SlotId(os.urandom(16)),
        label,
        b"",
        salt=os.urandom(16),
        cost=cost,
    )
    return _sealed(slot, _passphrase_key(passphrase, slot.salt, cost), secrets)


def unwrap_with_credential(slot: Slot, credential: bytes) -> VaultSecrets:
    """Return the secrets; raise WrongKey if the credential does not open this slot."""
    if slot.kind != CREDENTIAL:
        raise WrongKey("this keyslot is none that a credential opens")
    return _opened(slot, _credential_key(credential))


def unwrap_with_passphrase(slot: Slot, passphrase: str) -> VaultSecrets:
    """Return the secrets; raise WrongKey if the passphrase does not open this slot."""
    if slot.kind != PASSPHRASE:
        raise WrongKey("this keyslot is none that a passphrase opens")
    if slot.cost is None:
        raise ObjectDamaged("a passphrase keyslot says nothing of its cost")
    return _opened(slot, _passphrase_key(passphrase, slot.salt, slot.cost))


def encode_slot(slot: Slot) -> bytes:
    """Return the bytes of the keyslot object."""
    encoded = msgspec.msgpack.encode(slot)
    return encoded + object_name(encoded)


def decode_slot(data: bytes) -> Slot:
    """Return the slot in `data`; raise ObjectDamaged or RepositoryTooNew.

    The digest is for `vitrine verify`, which holds no passphrase: without it a slot that rots is
    noticed on the day it is needed.  It proves nothing against a forger; the box does.
    """
    encoded = data[:-_DIGEST_BYTES]
    if data[-_DIGEST_BYTES:] != object_name(encoded):
        raise ObjectDamaged("a keyslot is damaged: its bytes do not match its digest")
    try:
        slot = msgspec.msgpack.decode(encoded, type=Slot)
    except UNDECODABLE as error:
        raise ObjectDamaged(f"a keyslot does not decode: {error}") from error
    if slot.version != VERSION:
        raise RepositoryTooNew(f"a keyslot has version {slot.version}; this program knows 1")
    return slot


def _credential_key(credential: bytes) -> BoxKey:
    if len(credential) != CREDENTIAL_BYTES:
        raise WrongKey(f"a gate credential has {CREDENTIAL_BYTES} bytes, not {len(credential)}")
    return BoxKey(derive(_CREDENTIAL_CONTEXT, credential))


def _passphrase_key(passphrase: str, salt: bytes, cost: PassphraseCost) -> BoxKey:
    sane = (
        16 <= len(salt) <= MAX_SALT_BYTES
        and 1 <= cost.lanes <= MAX_LANES
        and 1 <= cost.iterations <= MAX_ITERATIONS
        and 8 * cost.lanes <= cost.memory_kib <= MAX_MEMORY_KIB
    )
    if not sane:
        raise ObjectDamaged("a passphrase keyslot asks for a cost out of all bounds")
    kdf = Argon2id(
        salt=salt,
        length=32,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    # surrogatepass: a passphrase that is not Unicode is a wrong or a strange one, never a crash
    normal = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass")
    try:
        with ARGON2_TURN:
            return BoxKey(kdf.derive(normal))
    except MemoryError:
        raise WrongKey(
            f"the passphrase cannot be tried: its keyslot takes {cost.memory_kib} KiB of memory",
            hint="free that much, or use a machine that has it",
        ) from None


def _sealed(slot: Slot, key: BoxKey, secrets: VaultSecrets) -> Slot:
    return msgspec.structs.replace(slot, box=key.seal(secrets.encode(), slot.context()))


def _opened(slot: Slot, key: BoxKey) -> VaultSecrets:
    try:
        plain = key.open(slot.box, slot.context(), "the keyslot")
    except ObjectDamaged:
        raise WrongKey("the passphrase or credential does not open this keyslot") from None
    secrets = VaultSecrets.decode(plain)
    if secrets.vault != slot.vault:
        raise WrongKey("a keyslot names one vault and holds the secrets of another")
    return secrets
