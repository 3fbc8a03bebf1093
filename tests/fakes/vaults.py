"""A repository with one vault and one enrolled writer, made as `vitrine init` makes them."""

import contextlib

from agent.crypto.keyslots import PassphraseCost, wrap_for_passphrase
from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.crypto.signing import SigningKey
from agent.errors import ObjectExists
from agent.repository.vaults import add_slot, create_repository, enrol_writer
from agent.store.base import Store

PASSPHRASE = "correct horse battery staple"
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)  # a test guesses often
CREATED_NS = 1_700_000_000_000_000_000


def make_vault(store: Store, name: str = "radiology") -> tuple[VaultSecrets, WriterKeys]:
    """Return the secrets of a new vault and the keys of a writer that it enrolled.

    The repository is made where there is none; a keyslot opens with PASSPHRASE.
    """
    with contextlib.suppress(ObjectExists):  # a second vault in one repository
        create_repository(store, CREATED_NS)
    secrets = VaultSecrets.generate(name, "Radiology", 3)
    add_slot(store, wrap_for_passphrase(secrets, PASSPHRASE, "recovery", CHEAP))
    return secrets, enrolled(store, secrets)


def enrolled(store: Store, secrets: VaultSecrets, host: str = "pacs1") -> WriterKeys:
    """Return the keys of one more writer."""
    keys = secrets.writer(SigningKey.generate().raw)
    enrol_writer(store, secrets, host, keys.signer().verify_key().raw)
    return keys
