"""The frozen objects as seeds, and the keys that open them: hostile bytes are sealed with them."""

import base64
from functools import cache
from typing import Final

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.naming import host_id
from agent.crypto.signing import SigningKey
from agent.errors import ObjectDamaged, RepositoryTooNew
from tests.vectors.generate import HERE, HOST_KEY, SECRETS

INDEX_KEY: Final[IndexKey] = SECRETS.writer(HOST_KEY).index()
SIGNER: Final = SigningKey(HOST_KEY)
HOST: Final = host_id(SIGNER.verify_key().raw)
DAMAGED: Final = (ObjectDamaged, RepositoryTooNew)  # what any object may be found to be


class _Vector(msgspec.Struct):
    name: str
    object: str


@cache
def vector(kind: str) -> tuple[str, bytes]:
    """Return the name and the bytes of a frozen object."""
    found = msgspec.json.decode((HERE / f"{kind}.json").read_bytes(), type=_Vector)
    return found.name, base64.b64decode(found.object)
