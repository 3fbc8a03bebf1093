"""Repositories, vaults, keyslots and enrolled writers: what there is before the first chunk."""

import logging
import os
from collections.abc import Iterator, Mapping

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.keyslots import (
    CREDENTIAL,
    PASSPHRASE,
    Slot,
    decode_slot,
    encode_slot,
    unwrap_with_credential,
    unwrap_with_passphrase,
)
from agent.crypto.naming import host_id
from agent.crypto.secrets import ReaderKeys, VaultSecrets
from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import (
    NotARepository,
    NotFound,
    ObjectDamaged,
    ObjectMissing,
    RepositoryError,
    RepositoryTooNew,
    VitrineError,
    WrongKey,
)
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, VaultId
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.store.base import Store

VERSION = 1
_log = logging.getLogger(__name__)
_CHECK_PATH = "check the path, or make one with `vitrine init`"
_WRITER_PURPOSE = b"vitrine writer 1"


class RepositoryInfo(msgspec.Struct, frozen=True):
    """The repository object: JSON, for a person who finds the disk in thirty years."""

    format: str
    version: int
    id: str
    created_ns: int


class Enrolment(msgspec.Struct, frozen=True):
    """One writer of one vault, signed by the vault's authority."""

    vault: VaultId
    public: bytes  # Ed25519
    name: bytes  # a box under the index key: the host's name
    signature: bytes = b""

    def signed_part(self) -> bytes:
        """Return the bytes that the signature covers."""
        return msgspec.msgpack.encode(msgspec.structs.replace(self, signature=b""))


def create_repository(store: Store, now_ns: int) -> RepositoryInfo:
    """Make an empty repository; raise ObjectExists where there is one."""
    info = RepositoryInfo("vitrine", VERSION, os.urandom(16).hex(), now_ns)
    store.put(layout.REPOSITORY, [msgspec.json.encode(info) + b"\n"])
    return info


def open_repository(store: Store) -> RepositoryInfo:
    """Return what kind of repository this is; raise NotARepository or RepositoryTooNew."""
    try:
        data = get_bounded(store, layout.REPOSITORY)
    except ObjectMissing:
        raise NotARepository(
            "there is no Vitrine repository at this place",
            hint=_CHECK_PATH,
        ) from None
    try:
        info = msgspec.json.decode(data, type=RepositoryInfo)
    except UNDECODABLE:
        raise NotARepository(
            "the file `repository` here is not Vitrine's", hint=_CHECK_PATH
        ) from None
    if info.format != "vitrine":
        raise NotARepository(
            f"this is a repository of {info.format!r}, not of Vitrine", hint=_CHECK_PATH
        )
    if info.version != VERSION:
        raise RepositoryTooNew(
            f"the repository has version {info.version}; this program knows {VERSION}",
            hint="install a newer Vitrine; nothing was changed",
        )
    return info


def vault_ids(store: Store) -> set[VaultId]:
    """Return the vaults that have a keyslot."""
    found = (layout.slot_vault(listed.name) for listed in store.list(layout.VAULTS))
    return {vault for vault in found if vault is not None}


def add_slot(store: Store, slot: Slot) -> None:
    """Store a keyslot."""
    store.put(layout.slot(slot.vault, slot.slot), [encode_slot(slot)])


def slots(store: Store, vault: VaultId) -> Iterator[Slot]:
    """Yield the vault's keyslots that can be read.

    One that is damaged, moved or of a later version is logged and passed over: slots are
    independent, so it must not keep the holder of another from opening the vault.
    """
    for listed in store.list(layout.slots(vault)):
        try:
            yield read_slot(store, listed.name)
        except RepositoryError as error:
            _log.warning("%s is passed over: %s", listed.name, error)


def read_slot(store: Store, name: str) -> Slot:
    """Return a keyslot that lies where it should; raise ObjectDamaged or RepositoryTooNew."""
    slot = decode_slot(get_bounded(store, name))
    if layout.slot(slot.vault, slot.slot) != name:
        raise ObjectDamaged(f"{name} says it belongs somewhere else")
    return slot


def secrets_by_passphrase(store: Store, name: str, passphrase: str) -> VaultSecrets:
    """Return the secrets of the vault called `name`; names are known only once a slot opens.

    Raises WrongKey where the passphrase opens no slot, NotFound where it opens other vaults only.
    """
    opened: list[str] = []
    refused: VitrineError = WrongKey(
        "the passphrase opens no vault of this repository", hint="try it once more"
    )
    for vault in sorted(vault_ids(store)):
        for slot in slots(store, vault):
            if slot.kind != PASSPHRASE:
                continue
            try:
                secrets = unwrap_with_passphrase(slot, passphrase)
            except (WrongKey, ObjectDamaged) as error:
                if error.hint or isinstance(error, ObjectDamaged):
                    refused = error  # not merely wrong: too little memory, or an impossible slot
                continue
            if secrets.name == name:
                return secrets
            opened.append(secrets.name)
    if opened:
        raise NotFound(
            f"this passphrase opens no vault called {name!r}",
            hint=f"it opens: {', '.join(sorted(opened))}",
        )
    raise refused


def secrets_by_credential(store: Store, keys: ReaderKeys, credential: bytes) -> VaultSecrets:
    """Return everything about a vault from the keyslot that `credential` opens.

    Raises WrongKey where none opens, ObjectDamaged where it disagrees with the holder's own keys.
    """
    for slot in slots(store, keys.vault):
        if slot.kind != CREDENTIAL:
            continue
        try:
            secrets = unwrap_with_credential(slot, credential)
        except WrongKey:
            continue
        if secrets.reader() != keys:
            raise ObjectDamaged("a credential's keyslot and its key file disagree")
        return secrets
    raise WrongKey(
        f"the credential opens no keyslot of vault {keys.name!r}",
        hint="give its holder a keyslot again, with the recovery passphrase",
    )


def enrol_writer(store: Store, secrets: VaultSecrets, host_name: str, public: bytes) -> HostId:
    """Let the holder of `public`'s private half write to the vault; return the host's id."""
    host = host_id(public)
    name = IndexKey(secrets.index_key).seal(host_name.encode(), _WRITER_PURPOSE + host)
    enrolment = Enrolment(secrets.vault, public, name)
    signature = SigningKey(secrets.authority).sign(_WRITER_PURPOSE, enrolment.signed_part())
    signed = msgspec.structs.replace(enrolment, signature=signature)
    store.put(layout.writer(secrets.vault, host), [msgspec.msgpack.encode(signed)])
    return host


def enrolled_writers(
    store: Store, vault: VaultId, authority: VerifyKey
) -> Mapping[HostId, VerifyKey]:
    """Return the keys of the vault's writers; raise ObjectDamaged on a forged enrolment."""
    found: dict[HostId, VerifyKey] = {}
    for listed in store.list(layout.writers(vault)):
        enrolment = read_enrolment(store, listed.name)
        check_enrolment(enrolment, authority)
        found[host_id(enrolment.public)] = VerifyKey(enrolment.public)
    return found


def read_enrolment(store: Store, name: str) -> Enrolment:
    """Return an enrolment that lies where it should; who signed it is not looked at."""
    enrolment = _decode_enrolment(get_bounded(store, name), name)
    if layout.writer(enrolment.vault, host_id(enrolment.public)) != name:
        raise ObjectDamaged(f"{name} says it belongs somewhere else")
    return enrolment


def check_enrolment(enrolment: Enrolment, authority: VerifyKey) -> None:
    """Raise ObjectDamaged unless the vault's authority signed it."""
    if not authority.verifies(enrolment.signature, _WRITER_PURPOSE, enrolment.signed_part()):
        name = layout.writer(enrolment.vault, host_id(enrolment.public))
        raise ObjectDamaged(f"{name} was not signed by the vault's authority")


def writer_name(store: Store, vault: VaultId, host: HostId, key: IndexKey) -> str:
    """Return the name that a host was enrolled under."""
    name = layout.writer(vault, host)
    enrolment = _decode_enrolment(get_bounded(store, name), name)
    return key.open(enrolment.name, _WRITER_PURPOSE + host, name).decode(errors="replace")


def _decode_enrolment(data: bytes, name: str) -> Enrolment:
    try:
        return msgspec.msgpack.decode(data, type=Enrolment)
    except UNDECODABLE as error:
        raise ObjectDamaged(f"{name} does not decode: {error}") from error
