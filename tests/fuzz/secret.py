"""Fuzz targets of agent/crypto: keyslots, key files, sealed keys, and what people type."""

from collections.abc import Iterator

import msgspec

from agent.crypto.keyfiles import load_keys
from agent.crypto.keyslots import (
    PassphraseCost,
    decode_slot,
    encode_slot,
    unwrap_with_credential,
    unwrap_with_passphrase,
)
from agent.crypto.naming import object_name
from agent.crypto.packkeys import OpeningKey, SealKey
from agent.crypto.recoverycodes import digest, generate
from agent.crypto.secrets import ReaderKeys, VaultSecrets, WriterKeys
from agent.crypto.totp import DIGITS, Token, normalised
from agent.errors import ConfigInvalid, ObjectDamaged, RepositoryTooNew, WrongKey
from agent.repository.pack import HEADER, PREAMBLE_BYTES
from tests.fuzz.target import Target, file_of
from tests.fuzz.vectors import vector
from tests.vectors.generate import CREDENTIAL, HOST_KEY, SECRETS, TIME_NS

_CHEAP_KIB = 64  # what a guess may cost here: what a slot asks for is bounded, but not cheap
_TOKEN = Token(bytes(range(20)))
_OPENING = OpeningKey(SECRETS.epochs[1])


def _keyslot(data: bytes) -> None:
    """Check that a slot that decodes has one form, and opens or is refused."""
    slot = decode_slot(data + object_name(data))
    assert decode_slot(encode_slot(slot)) == slot
    cost = slot.cost or PassphraseCost(0, 0, 0)
    if slot.kind == "credential":
        unwrap_with_credential(slot, CREDENTIAL)
    elif cost.memory_kib <= _CHEAP_KIB and cost.iterations <= 1:
        unwrap_with_passphrase(slot, "a guess")


def _slot_seeds() -> Iterator[bytes]:
    for kind in ("keyslot-credential", "keyslot-passphrase"):
        yield vector(kind)[1][:-32]


def _secrets(data: bytes) -> None:
    """Check that whatever a slot holds is secrets that can be used, or none."""
    secrets = VaultSecrets.decode(data)
    assert VaultSecrets.decode(secrets.encode()) == secrets
    _use(secrets.reader())
    _use(secrets.writer(HOST_KEY))


def _use(keys: ReaderKeys | WriterKeys) -> None:
    keys.ids().chunk_id(b"")
    keys.index().seal(b"", b"")
    if isinstance(keys, ReaderKeys):
        keys.authority_key().verifies(b"", b"", b"")
    else:
        keys.signer().sign(b"", b"")
        keys.seal().new_pack_cipher(b"")


def _key_file(data: bytes) -> None:
    """Check that a key file holds keys that can be used, or is refused when it is loaded."""
    with file_of(data) as path:
        if b"WriterKeys" in data:
            _use(load_keys(path, WriterKeys))
        else:
            _use(load_keys(path, ReaderKeys))


def _key_files() -> Iterator[bytes]:
    for keys in (SECRETS.reader(), SECRETS.writer(HOST_KEY)):
        body = {"kind": f"vitrine {type(keys).__name__}", "keys": keys}
        yield msgspec.json.encode(body)


def _sealed_key(data: bytes) -> None:
    """Check that a sealed key opens to 32 bytes, or not."""
    context, sealed = data[: HEADER.size], data[HEADER.size :]
    assert len(_OPENING.unseal(sealed, context)) == 32


def _seal_key(data: bytes) -> None:
    """Check that what is no public key is refused when it is loaded, or when it first seals."""
    SealKey(data).new_pack_cipher(b"")


def _code(data: bytes) -> None:
    """Check that whatever is typed is six digits or nothing, and matches a step or none."""
    typed = data.decode("utf-8", "surrogateescape")
    assert len(normalised(typed)) in {0, DIGITS}
    step = _TOKEN.matching_step(typed, TIME_NS)
    assert step is None or abs(step - TIME_NS // 30_000_000_000) <= 1


def _recovery_code(data: bytes) -> None:
    """Check that whatever is typed has a digest, and case and dashes do not change it."""
    typed = data.decode("utf-8", "surrogateescape")
    found = digest(bytes(32), typed, typed)
    assert len(found) == 32
    if len(typed) < 16 and typed.isascii():
        assert digest(bytes(32), typed, f"-{typed.lower()} ") == found


REFUSED = (ObjectDamaged, RepositoryTooNew, WrongKey)
TARGETS = (
    Target(
        "keyslot",
        ("agent.crypto.keyslots:decode_slot",),
        _keyslot,
        errors=REFUSED,
        seeds=_slot_seeds,
    ),
    Target(
        "secrets",
        ("agent.crypto.secrets:VaultSecrets",),
        _secrets,
        errors=(WrongKey,),
        seeds=lambda: [SECRETS.encode()],
    ),
    Target(
        "key_file",
        ("agent.crypto.keyfiles:load_keys",),
        _key_file,
        errors=(ConfigInvalid, WrongKey),
        seeds=_key_files,
    ),
    Target(
        "sealed_key",
        ("agent.crypto.packkeys:OpeningKey",),
        _sealed_key,
        errors=(ObjectDamaged,),
        seeds=lambda: [vector("pack-data")[1][:PREAMBLE_BYTES]],
    ),
    Target(
        "seal_key",
        ("agent.crypto.packkeys:SealKey",),
        _seal_key,
        errors=(WrongKey,),
        seeds=lambda: [_OPENING.seal_key().raw],
    ),
    Target(
        "totp",
        ("agent.crypto.totp:Token", "agent.crypto.totp:normalised"),
        _code,
        seeds=lambda: [_TOKEN.code(TIME_NS).encode(), "\uff11\uff12\uff13 456".encode()],
        max_bytes=128,
    ),
    Target(
        "recovery_code",
        ("agent.crypto.recoverycodes:digest",),
        _recovery_code,
        seeds=lambda: [generate()[0].encode()],
        max_bytes=128,
    ),
)
