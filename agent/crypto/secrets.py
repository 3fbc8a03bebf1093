"""A vault's keys as values: everything (in a keyslot), what a writer holds, what a reader holds.

| type         | seal | name | read index | sign as host | open | enrol writers |
|--------------|------|------|------------|--------------|------|---------------|
| WriterKeys   | yes  | yes  | yes        | yes          |      |               |
| ReaderKeys   |      | yes  | yes        |              |      |               |
| VaultSecrets | yes  | yes  | yes        |              | yes  | yes           |
"""

import os
from typing import Annotated

import msgspec

from agent.crypto.box import KEY_BYTES, IndexKey
from agent.crypto.naming import IdKey, host_id
from agent.crypto.packkeys import PUBLIC_BYTES, SEED_BYTES, OpeningKey, SealKey
from agent.crypto.signing import SigningKey, VerifyKey
from agent.errors import WrongKey
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, VaultId

FIRST_EPOCH = 1
MAX_EPOCH = 2**32 - 1  # what a pack's header has room for
VAULT_ID_BYTES = 16

# A key file that was cut short or mistyped is refused when it is loaded, not when it is used
_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
_SealKeyBytes = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_BYTES, max_length=PUBLIC_BYTES)]


class VaultSecrets(msgspec.Struct, frozen=True):
    """Everything about one vault: the plaintext of its keyslots.  Never at rest in the clear."""

    vault: VaultId
    name: str
    department: str
    level: int  # sensitivity 1 to 5 (GB/T 39725-2020)
    id_key: bytes
    index_key: bytes
    authority: bytes  # Ed25519 private key that enrols writers
    epochs: dict[int, bytes]  # epoch → seed of its opening key; the highest is current

    @classmethod
    def generate(cls, name: str, department: str, level: int) -> "VaultSecrets":
        """Return the secrets of a new vault."""
        return cls(
            vault=VaultId(os.urandom(16)),
            name=name,
            department=department,
            level=level,
            id_key=os.urandom(32),
            index_key=os.urandom(32),
            authority=SigningKey.generate().raw,
            epochs={FIRST_EPOCH: OpeningKey.generate().seed},
        )

    def encode(self) -> bytes:
        """Return the MessagePack form that keyslots wrap."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "VaultSecrets":
        """Return the secrets in `data`; raise WrongKey where there are none."""
        try:
            secrets = msgspec.msgpack.decode(data, type=cls)
        except UNDECODABLE as error:
            raise WrongKey("a keyslot opened, but holds no vault secrets") from error
        keys = (secrets.id_key, secrets.index_key, secrets.authority)
        if not (
            len(secrets.vault) == VAULT_ID_BYTES
            and all(len(key) == KEY_BYTES for key in keys)
            and secrets.epochs
            and all(0 < epoch <= MAX_EPOCH for epoch in secrets.epochs)
            and all(len(seed) == SEED_BYTES for seed in secrets.epochs.values())
        ):
            raise WrongKey("a keyslot opened, but holds keys of impossible lengths")
        return secrets

    def reader(self) -> "ReaderKeys":
        """Return what the gate keeps at rest."""
        authority = SigningKey(self.authority).verify_key().raw
        return ReaderKeys(
            vault=self.vault,
            name=self.name,
            department=self.department,
            level=self.level,
            id_key=self.id_key,
            index_key=self.index_key,
            authority=authority,
        )

    def writer(self, signing: bytes) -> "WriterKeys":
        """Return the write-only bundle of the host that signs with `signing`."""
        epoch = max(self.epochs)
        return WriterKeys(
            vault=self.vault,
            epoch=epoch,
            seal_key=OpeningKey(self.epochs[epoch]).seal_key().raw,
            id_key=self.id_key,
            index_key=self.index_key,
            signing=signing,
        )


class ReaderKeys(msgspec.Struct, frozen=True):
    """What verifies and finds, but opens no pack."""

    vault: VaultId
    name: str
    department: str
    level: int
    id_key: _Key
    index_key: _Key
    authority: _Key  # public

    def ids(self) -> IdKey:
        """Return the key that names chunks and trees."""
        return IdKey(self.id_key)

    def index(self) -> IndexKey:
        """Return the key that reads indexes and snapshots."""
        return IndexKey(self.index_key)

    def authority_key(self) -> VerifyKey:
        """Return the key that every writer's enrolment is signed with."""
        return VerifyKey(self.authority)


class WriterKeys(msgspec.Struct, frozen=True):
    """The write-only bundle: all that an agent holds of a vault.  Opens nothing."""

    vault: VaultId
    epoch: int
    seal_key: _SealKeyBytes
    id_key: _Key
    index_key: _Key
    signing: _Key

    def seal(self) -> SealKey:
        """Return the key that seals pack keys."""
        return SealKey(self.seal_key)

    def ids(self) -> IdKey:
        """Return the key that names chunks and trees."""
        return IdKey(self.id_key)

    def index(self) -> IndexKey:
        """Return the key that reads indexes and snapshots."""
        return IndexKey(self.index_key)

    def signer(self) -> SigningKey:
        """Return this host's signing key."""
        return SigningKey(self.signing)

    def host(self) -> HostId:
        """Return the name this host writes under."""
        return host_id(self.signer().verify_key().raw)
