"""Key files: one vault's keys for one holder, or the gate's credential; never readable by others.

JSON with base64, so that a person can see what kind of key a file holds without reading the key.
A file that systemd hands over in $CREDENTIALS_DIRECTORY, as `keys_<name>` (docs/systemd.md), takes
the place of the one that is configured.
"""

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.crypto.keyslots import CREDENTIAL_BYTES
from agent.crypto.secrets import ReaderKeys, WriterKeys
from agent.errors import ConfigInvalid, WrongKey
from agent.model.decoding import UNDECODABLE

Keys = TypeVar("Keys", WriterKeys, ReaderKeys)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class _File(msgspec.Struct, frozen=True):
    """What stands around the keys."""

    kind: str
    keys: msgspec.Raw


def save_keys(path: Path, keys: WriterKeys | ReaderKeys) -> None:
    """Write a new key file, mode 0600; raise ConfigInvalid where one is already."""
    encoded = msgspec.json.encode(keys)
    body = msgspec.json.encode(_File(_kind(type(keys)), msgspec.Raw(encoded)))
    _create(path, msgspec.json.format(body, indent=2) + b"\n")


def load_keys(path: Path, kind: type[Keys]) -> Keys:
    """Return the keys; raise WrongKey for another kind, ConfigInvalid for a bad or open file."""
    try:
        file = msgspec.json.decode(_read(path), type=_File)
        if file.kind != _kind(kind):
            raise WrongKey(f"{path} holds {file.kind}, not {_kind(kind)}")
        return msgspec.json.decode(file.keys, type=kind)
    except UNDECODABLE as error:
        raise ConfigInvalid(f"{path} is no key file of Vitrine") from error


def save_credential(path: Path, credential: bytes) -> None:
    """Write the gate's credential, mode 0600; raise ConfigInvalid where one is already."""
    _create(path, credential)


def load_credential(path: Path) -> bytes:
    """Return the gate's 32 bytes; raise WrongKey where the file holds something else."""
    credential = _read(path)
    if len(credential) != CREDENTIAL_BYTES:
        raise WrongKey(f"{path} holds {len(credential)} bytes; a credential has {CREDENTIAL_BYTES}")
    return credential


def _kind(kind: type[object]) -> str:
    return f"vitrine {kind.__name__}"


def _create(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigInvalid(f"{path} exists already; keys are never written over") from None
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> bytes:
    passed = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere"), f"keys_{path.name}")
    is_passed = passed.is_file()
    try:
        with (passed if is_passed else path).open("rb") as file:
            # what the service manager passes is guarded by an access control list
            if not is_passed and os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigInvalid(
                    f"{path} can be read by others: its keys must be taken for known",
                    hint=f"`chmod 600 {path}`, and consider new keys",
                )
            return file.read()
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
