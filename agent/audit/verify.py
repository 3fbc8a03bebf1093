"""Checks a whole chain: any change, cut, gap, swap or wrong signature is found and named.

Reads a line at a time, beside the running writer: the head is read after the lines, so it never
vouches for a record that could not have been there yet.
"""

from typing import BinaryIO, Final

import msgspec

from agent.audit.files import AuditFiles
from agent.audit.head import Head, read_head
from agent.audit.records import (
    MAX_LINE_BYTES,
    NO_PREVIOUS,
    SIGNATURE_PURPOSE,
    AuditRecord,
    Event,
    decode,
    line_hash,
    signed_part,
)
from agent.audit.recover import MAX_AHEAD
from agent.crypto.signing import VerifyKey
from agent.errors import AuditBroken, AuditUnavailable

_HEAD_READS: Final = 5  # the writer may be in the middle of one slot, not five times in a row
_HINT: Final = "keep the files as they are, and tell the security officer"


class Verified(msgspec.Struct, frozen=True):
    """What was checked: records, signatures among them, and those behind the signed head.

    `unconfirmed` is 0 but right after a crash, or while the writer is between two syncs.
    """

    records: int
    signatures: int
    unconfirmed: int


class _Walk:
    """Where the check has come to."""

    def __init__(self, key: VerifyKey) -> None:
        self._key = key
        self.seq = 0
        self.hash = NO_PREVIOUS
        self.signatures = 0
        self.hashes_at: dict[int, str] = {}  # of the last few records: the head names one of them

    def take(self, line: bytes) -> None:
        """Check the next line; raise AuditBroken naming its number."""
        number = self.seq + 1
        if not line.endswith(b"\n"):
            raise _broken(number, "is too long")
        record = decode(line[:-1], number)
        if record.seq != number:
            raise _broken(number, f"is missing: number {record.seq} stands in its place")
        if record.prev != self.hash:
            raise _broken(number, "does not follow from the one before: one of them was changed")
        self._check_signature(record)
        self.seq, self.hash = number, line_hash(line[:-1])
        self.hashes_at[number] = self.hash
        self.hashes_at.pop(number - MAX_AHEAD - 1, None)

    def _check_signature(self, record: AuditRecord) -> None:
        if record.seq == 1:
            first = record.event == Event.AUDIT_CREATED
            if not first or record.details.get("key") != self._key.raw.hex():
                raise _broken(1, "is not the first of the chain that this key keeps")
        if record.event != Event.AUDIT_SIGNED:
            return
        signature = _unhex(record.details.get("signature"))
        part = signed_part(record.seq, record.prev)
        if not self._key.verifies(signature, SIGNATURE_PURPOSE, part):
            raise _broken(record.seq, "has a wrong signature")
        self.signatures += 1


def verify_chain(files: AuditFiles, key: VerifyKey) -> Verified:
    """Return what was checked; raise AuditBroken, naming the record, at the first fault.

    Raises AuditUnavailable where the files cannot be read.
    """
    try:
        with files.chain.open("rb") as file:
            return _verified(file, files, key)
    except FileNotFoundError:
        raise AuditBroken("the audit is gone: there is no chain file", hint=_HINT) from None
    except OSError as error:
        raise AuditUnavailable(f"the audit cannot be read: {error.strerror}") from error


def _verified(file: BinaryIO, files: AuditFiles, key: VerifyKey) -> Verified:
    walk = _Walk(key)
    while _take_one(file, walk):
        pass
    head = _whole_head(files, key)
    while walk.seq < head.seq:  # the writer went on meanwhile, or the end is gone
        if not _take_one(file, walk):
            raise _broken(walk.seq + 1, f"is gone, as are all to {head.seq}: the end was cut off")
    if walk.hashes_at.get(head.seq) != head.hash:
        raise _broken(head.seq, "is not the one that the signed head vouches for")
    return Verified(walk.seq, walk.signatures, walk.seq - head.seq)


def _take_one(file: BinaryIO, walk: _Walk) -> bool:
    """Check the next whole line, if there is one: half a line may be one being written."""
    start = file.tell()
    line = file.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
        file.seek(start)
        return False
    walk.take(line)
    return True


def _whole_head(files: AuditFiles, key: VerifyKey) -> Head:
    for _ in range(_HEAD_READS):
        read = read_head(files.head, key)
        if not read.damaged:
            return read.head
    raise AuditBroken("half of the audit's head is damaged", hint=_HINT)


def _unhex(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _broken(number: int, what: str) -> AuditBroken:
    return AuditBroken(f"audit record {number} {what}", hint=_HINT)
