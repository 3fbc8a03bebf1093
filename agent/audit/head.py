"""The head file: how far a chain had come, signed, so that a cut tail is noticed.

Two slots are written in turn, in place: a torn write damages one, the other is one append older.
The file is made whole at once and never grows, so a full disk cannot stop it.  The storage can
still put back an older chain together with its older head: only a copy elsewhere shows that.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from agent.crypto.signing import SIGNATURE_BYTES, SigningKey, VerifyKey
from agent.errors import AuditBroken

SLOT_BYTES: Final = 4096  # no two slots in one sector or page
SLOTS: Final = 2
_BODY_BYTES: Final = 8 + 32
_ENTRY_BYTES: Final = _BODY_BYTES + SIGNATURE_BYTES
_PURPOSE: Final = b"vitrine 2026-11 audit head"


class Head(msgspec.Struct, frozen=True):
    """The last record that was synced: its number and the hash of its line."""

    seq: int
    hash: str


class HeadRead(msgspec.Struct, frozen=True):
    """What a head file says, and how many of its slots say nothing."""

    head: Head
    damaged: int


class HeadFile:
    """Writes heads.  Not thread-safe: the chain's lock is around it."""

    def __init__(self, path: Path, signer: SigningKey) -> None:
        """Open an existing head file; raise OSError where there is none."""
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._signer = signer
        self._slot = 0

    def write(self, head: Head) -> None:
        """Write and sync `head` over the older slot; raise OSError."""
        self._slot = (self._slot + 1) % SLOTS
        entry = _entry(head, self._signer)
        if os.pwrite(self._fd, entry, self._slot * SLOT_BYTES) != len(entry):
            raise OSError("a short write to the head of the audit")
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def create_head(path: Path, head: Head, signer: SigningKey) -> None:
    """Make the head file, whole, with `head` in both slots; raise OSError if it is there."""
    slot = _entry(head, signer).ljust(SLOT_BYTES, b"\0")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(slot * SLOTS)
        file.flush()
        os.fsync(file.fileno())


def read_head(path: Path, key: VerifyKey) -> HeadRead:
    """Return the newest head; raise AuditBroken if the file is gone or no slot verifies."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AuditBroken("the head of the audit is gone: nobody can say where it ends") from None
    slots = [data[at : at + SLOT_BYTES] for at in range(0, SLOTS * SLOT_BYTES, SLOT_BYTES)]
    heads = [head for slot in slots if (head := _verified(slot, key))]
    if not heads or len(data) != SLOTS * SLOT_BYTES:
        raise AuditBroken("the head of the audit is damaged, or was signed by another key")
    return HeadRead(max(heads, key=lambda head: head.seq), SLOTS - len(heads))


def _entry(head: Head, signer: SigningKey) -> bytes:
    body = head.seq.to_bytes(8, "little") + bytes.fromhex(head.hash)
    return body + signer.sign(_PURPOSE, body)


def _verified(slot: bytes, key: VerifyKey) -> Head | None:
    body, signature = slot[:_BODY_BYTES], slot[_BODY_BYTES:_ENTRY_BYTES]
    if any(slot[_ENTRY_BYTES:]) or not key.verifies(signature, _PURPOSE, body):
        return None
    return Head(int.from_bytes(body[:8], "little"), body[8:].hex())
