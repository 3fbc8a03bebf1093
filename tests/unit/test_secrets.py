"""A vault's keys as values: each type can do what its row in the table says, and no more."""

from dataclasses import dataclass

import msgspec
import pytest

from agent.crypto.packkeys import PACK_KEY_BYTES, OpeningKey
from agent.crypto.secrets import ReaderKeys, VaultSecrets, WriterKeys
from agent.crypto.signing import SigningKey
from agent.errors import WrongKey

SECRETS = VaultSecrets.generate("radiology", "Radiology", 3)


def _holds(value: msgspec.Struct, secret: bytes) -> bool:
    return secret in msgspec.msgpack.encode(value)


def test_secrets_survive_encoding() -> None:
    """What a keyslot wraps comes back equal."""
    assert VaultSecrets.decode(SECRETS.encode()) == SECRETS


def test_a_writer_holds_nothing_that_opens_or_enrols() -> None:
    """The agent's bundle has neither a seed nor the authority in it."""
    writer = SECRETS.writer(SigningKey.generate().raw)
    assert not _holds(writer, SECRETS.epochs[1])
    assert not _holds(writer, SECRETS.authority)
    assert isinstance(writer, WriterKeys)


def test_a_reader_holds_nothing_that_opens_or_signs() -> None:
    """The gate at rest has neither a seed nor the private authority in it."""
    reader = SECRETS.reader()
    assert not _holds(reader, SECRETS.epochs[1])
    assert not _holds(reader, SECRETS.authority)
    assert isinstance(reader, ReaderKeys)


def test_a_writer_seals_under_the_highest_epoch() -> None:
    """After rotation new packs go to the new key."""
    seed = OpeningKey.generate().seed
    rotated = msgspec.structs.replace(SECRETS, epochs={**SECRETS.epochs, 2: seed})
    writer = rotated.writer(SigningKey.generate().raw)
    _, sealed = writer.seal().new_pack_cipher(b"c")
    assert writer.epoch == 2
    assert len(OpeningKey(seed).unseal(sealed, b"c")) == PACK_KEY_BYTES


def test_writer_and_reader_name_alike() -> None:
    """Both derive the same names from the id key."""
    writer, reader = SECRETS.writer(SigningKey.generate().raw), SECRETS.reader()
    assert writer.ids().chunk_id(b"x") == reader.ids().chunk_id(b"x")
    assert reader.authority_key().raw == SigningKey(SECRETS.authority).verify_key().raw


@dataclass(frozen=True)
class _Case:
    name: str
    data: bytes


@pytest.mark.parametrize(
    "case",
    [
        _Case("empty", b""),
        _Case("nested", b"\x81\xa1z" + b"\x91" * 100_000 + b"\xc0"),
        _Case("bad text", SECRETS.encode().replace(b"radiology", b"\xff\xfediology")),
        *(
            _Case(field, msgspec.structs.replace(SECRETS, **{field: value}).encode())
            for field, value in {
                "vault": b"v",
                "id_key": b"",
                "index_key": bytes(33),
                "authority": bytes(31),
                "epochs": {},
            }.items()
        ),
        _Case("seed", msgspec.structs.replace(SECRETS, epochs={1: b"x"}).encode()),
        _Case("epoch", msgspec.structs.replace(SECRETS, epochs={2**32: bytes(96)}).encode()),
    ],
    ids=lambda case: case.name,
)
def test_what_are_no_secrets_is_a_wrong_key(case: _Case) -> None:
    """Impossible keys are refused where they are read, not where they are first used."""
    with pytest.raises(WrongKey):
        VaultSecrets.decode(case.data)
