"""Small objects that are sealed under the index key and signed: snapshots, and what governs them.

    magic (8) ‖ version u8 ‖ suite u8 ‖ 0 0 ‖ box length u32 ‖ box ‖ Ed25519 signature (64)

Box and signature are both bound to the object's place, so that one moved elsewhere is refused.
"""

import struct
from typing import NamedTuple, TypeVar

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.signing import SIGNATURE_BYTES, SigningKey, VerifyKey
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.decoding import UNDECODABLE
from agent.repository.pack import SUITE

VERSION = 1
_FAMILY = b"VITR"  # begins every magic of ours
_HEAD = struct.Struct("<8sBBxxI")

Body = TypeVar("Body", bound=msgspec.Struct)


class Form(NamedTuple):
    """One kind of such objects."""

    magic: bytes
    purpose: bytes  # begins the box's context, and is what the signature is for
    title: str  # what it is, and who signs it, for messages
    signer: str


def seal(form: Form, place: bytes, plain: bytes, key: IndexKey, signer: SigningKey) -> bytes:
    """Return the object's bytes."""
    box = key.seal(plain, form.purpose + place)
    body = _HEAD.pack(form.magic, VERSION, SUITE, len(box)) + box
    return body + signer.sign(form.purpose, place + body)


def check_signature(form: Form, place: bytes, data: bytes, verify: VerifyKey, name: str) -> None:
    """Raise ObjectDamaged unless `verify`'s holder signed these bytes for this place."""
    _box(form, data, name)
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if not verify.verifies(signature, form.purpose, place + body):
        raise ObjectDamaged(f"{name} is not signed by {form.signer}: damaged, moved or forged")


def check_form(data: bytes, name: str) -> None:
    """Raise ObjectDamaged unless this is whole, whatever its kind.  Who signed it none can tell."""
    if data[:4] != _FAMILY:
        raise ObjectDamaged(f"{name} is no record of ours")
    _box(Form(data[:8], b"", "a record", ""), data, name)


def open_box(form: Form, place: bytes, data: bytes, key: IndexKey, name: str) -> bytes:
    """Return the plaintext; raise ObjectDamaged.  Who signed it is not looked at."""
    return key.open(_box(form, data, name), form.purpose + place, name)


def decode(
    form: Form, place: bytes, data: bytes, key: IndexKey, verify: VerifyKey | None, name: str,
    kind: type[Body],
) -> Body:  # fmt: skip
    """Return the object's body, of type `kind`; raise ObjectDamaged where it is none.

    Without `verify` who signed it is not looked at.
    """
    if verify is not None:
        check_signature(form, place, data, verify, name)
    try:
        return msgspec.msgpack.decode(open_box(form, place, data, key, name), type=kind)
    except UNDECODABLE as error:
        raise ObjectDamaged(f"{name} does not decode: {error}") from error


def check_place(said: object, expected: object, name: str) -> None:
    """Raise ObjectDamaged where a body says that it belongs elsewhere: its signer may lie."""
    if said != expected:
        raise ObjectDamaged(f"{name} says it belongs somewhere else")


def _box(form: Form, data: bytes, name: str) -> memoryview:
    if len(data) < _HEAD.size + SIGNATURE_BYTES:
        raise ObjectDamaged(f"{name} is cut short")
    magic, version, suite, length = _HEAD.unpack_from(data)
    if magic != form.magic:
        raise ObjectDamaged(f"{name} is not {form.title}")
    if version != VERSION or suite != SUITE:
        raise RepositoryTooNew(f"{name} has version {version}, suite {suite}; known are 1 and 1")
    if len(data) != _HEAD.size + length + SIGNATURE_BYTES:
        raise ObjectDamaged(f"{name} has the wrong length")
    return memoryview(data)[_HEAD.size : _HEAD.size + length]
