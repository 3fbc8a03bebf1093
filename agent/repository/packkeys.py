"""Where pack keys come from: the gate, asked once a pack, or opening keys that are at hand."""

from collections.abc import Mapping
from typing import Protocol

from agent.crypto.packkeys import OpeningKey
from agent.crypto.secrets import VaultSecrets
from agent.errors import AccessDenied, ObjectDamaged, RepositoryTooNew
from agent.model.ids import PackId, VaultId
from agent.repository import layout
from agent.repository.pack import parse_header


class PackKeys(Protocol):
    """Gives the key of a pack to who may have it.  Called from any thread; may block."""

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return the pack's key, given its first PREAMBLE_BYTES."""
        ...


class OpeningKeys:
    """Unseals pack keys of one vault with its opening keys: the gate, and `vitrine recover`."""

    def __init__(self, vault: VaultId, epochs: Mapping[int, bytes]) -> None:
        """Take the opening keys' seeds by epoch."""
        self._vault = vault
        self._keys = {epoch: OpeningKey(seed) for epoch, seed in epochs.items()}

    @classmethod
    def of(cls, secrets: VaultSecrets) -> "OpeningKeys":
        """Return the opening keys that a keyslot held."""
        return cls(secrets.vault, secrets.epochs)

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return the pack's key; refuse another vault's pack, whatever key it is sealed with."""
        name = layout.pack(pack)
        header = parse_header(preamble, name)
        if header.vault != self._vault:
            raise AccessDenied("this pack belongs to another vault")
        key = self._keys.get(header.epoch)
        if key is None:
            raise RepositoryTooNew(f"{name} is of epoch {header.epoch}, which no key here opens")
        try:
            return key.unseal(header.sealed_key, header.context)
        except ObjectDamaged as error:
            raise ObjectDamaged(f"{name}: {error.message}", hint=error.hint) from None
