"""One audit record as a value: what may be said, and its one form as bytes."""

import enum
import unicodedata
from typing import Final

import msgspec

from agent.clock import utc
from agent.crypto.naming import object_name
from agent.errors import AuditBroken
from agent.model.decoding import UNDECODABLE

MAX_TEXT: Final = 300  # characters of one text: a typed purpose is a sentence, not a novel
MAX_DETAILS: Final = 32
MAX_KEY: Final = 64  # a detail's name: a word of ours, or a digest in hexadecimal
MAX_LINE_BYTES: Final = 64 * 1024  # above any record within those limits: 4 bytes a character
NO_PREVIOUS: Final = "0" * 64
SIGNATURE_PURPOSE: Final = b"vitrine 2026-11 audit signature"
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

Detail = str | int | bool


class Event(enum.StrEnum):
    """What happened.  Names are kept for ever: auditors search for them."""

    AUDIT_CREATED = "audit-created"
    AUDIT_OPENED = "audit-opened"
    AUDIT_CLOSED = "audit-closed"
    AUDIT_SIGNED = "audit-signed"
    AUDIT_REPAIRED = "audit-repaired"
    AUDIT_SPACE_EXHAUSTED = "audit-space-exhausted"
    AUDIT_SPACE_RETURNED = "audit-space-returned"
    SERVICE_STARTED = "service-started"
    SERVICE_STOPPED = "service-stopped"
    AUTHENTICATION = "authentication"
    ACCESS_DECIDED = "access-decided"
    SESSION_STARTED = "session-started"
    SESSION_ENDED = "session-ended"
    FILES_OPENED = "files-opened"
    RESTORE_STARTED = "restore-started"
    RESTORE_ENDED = "restore-ended"
    USER_ADDED = "user-added"
    USER_DISABLED = "user-disabled"
    USER_UNLOCKED = "user-unlocked"
    POLICY_LOADED = "policy-loaded"
    AUDIT_READ = "audit-read"
    SNAPSHOTS_LISTED = "snapshots-listed"
    SNAPSHOT_REQUESTED = "snapshot-requested"
    SNAPSHOT_TAKEN = "snapshot-taken"
    SNAPSHOT_FAILED = "snapshot-failed"
    SIGNS_SEEN = "signs-seen"
    SOURCE_STATE = "source-state"
    VERIFICATION = "verification"
    MAINTENANCE_FAILED = "maintenance-failed"
    SNAPSHOTS_REMOVED = "snapshots-removed"
    RETENTION_FROZEN = "retention-frozen"
    RETENTION_THAWED = "retention-thawed"
    HOLD_ADDED = "hold-added"
    HOLD_RELEASED = "hold-released"
    PACKS_PRUNED = "packs-pruned"
    PARITY_MADE = "parity-made"
    REPOSITORY_REPAIRED = "repository-repaired"
    REPOSITORY_COPIED = "repository-copied"
    DRILL_STARTED = "drill-started"
    DRILL_ENDED = "drill-ended"


ENDINGS: Final = frozenset(
    {Event.SESSION_ENDED, Event.FILES_OPENED, Event.RESTORE_ENDED, Event.SERVICE_STOPPED}
)
"""What only takes away or counts: still written into the space that the reserve gave up."""

OPERATIONAL: Final = frozenset(
    {
        Event.AUDIT_CREATED,
        Event.AUDIT_OPENED,
        Event.AUDIT_CLOSED,
        Event.AUDIT_REPAIRED,
        Event.AUDIT_SPACE_EXHAUSTED,
        Event.AUDIT_SPACE_RETURNED,
        Event.SERVICE_STARTED,
        Event.SERVICE_STOPPED,
        Event.POLICY_LOADED,
        Event.SNAPSHOT_REQUESTED,
        Event.SNAPSHOT_TAKEN,
        Event.SNAPSHOT_FAILED,
        Event.SIGNS_SEEN,
        Event.SOURCE_STATE,
        Event.VERIFICATION,
        Event.MAINTENANCE_FAILED,
        Event.SNAPSHOTS_REMOVED,
        Event.RETENTION_FROZEN,
        Event.RETENTION_THAWED,
        Event.PACKS_PRUNED,
        Event.PARITY_MADE,
        Event.REPOSITORY_REPAIRED,
        Event.REPOSITORY_COPIED,
        Event.DRILL_STARTED,
        Event.DRILL_ENDED,
    }
)
"""What who may read operational records only is shown: nothing of who looked at what."""


class Outcome(enum.StrEnum):
    """How it ended."""

    SUCCESS = "success"
    REFUSED = "refused"  # decided against
    FAILED = "failed"  # tried, and did not work


class AuditRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a chain.  `event` may be one that only a later version knows."""

    seq: int  # from 1, without gaps
    time: str  # UTC, ISO 8601 with nanoseconds
    event: str
    outcome: str
    actor: str  # a user's or a service's name
    action: str
    object: str  # a vault, a user, a session: never a patient, never a path in a source
    details: dict[str, Detail]
    prev: str  # BLAKE3 of the line before without its newline, hexadecimal


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(AuditRecord)


def encode(record: AuditRecord) -> bytes:
    """Return the one form of `record`: JSON without spaces, keys in order, no newline."""
    return _encoder.encode(record)


def decode(line: bytes, number: int) -> AuditRecord:
    """Return the record in `line`; raise AuditBroken, naming record `number`, unless canonical."""
    try:
        record = _decoder.decode(line)
    except UNDECODABLE:
        raise AuditBroken(f"audit record {number} is damaged: it does not decode") from None
    if encode(record) != line:
        raise AuditBroken(f"audit record {number} is damaged: it was written in another form")
    return record


def line_hash(line: bytes) -> str:
    """Return what the next record holds as `prev`."""
    return object_name(line).hex()


def timestamp(time_ns: int) -> str:
    """Return `time_ns` as UTC in ISO 8601, to the nanosecond."""
    return f"{utc(time_ns):%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000:09d}Z"


def plain(text: str) -> str:
    """Return `text` as one bounded line: nothing that hides, breaks lines or turns their order."""
    kept = "".join(
        " " if c.isspace() else c
        for c in text[: 4 * MAX_TEXT]
        if c.isspace() or unicodedata.category(c) not in _HIDDEN
    )
    short = " ".join(kept.split())
    return short if len(short) <= MAX_TEXT else short[: MAX_TEXT - 1] + "…"


def plain_details(details: dict[str, Detail]) -> dict[str, Detail]:
    """Return `details` with names and texts made plain; raise ValueError for too many."""
    if len(details) > MAX_DETAILS:
        raise ValueError(f"a record has at most {MAX_DETAILS} details, not {len(details)}")
    return {plain(k)[:MAX_KEY]: plain(v) if isinstance(v, str) else v for k, v in details.items()}


def signed_part(seq: int, prev: str) -> bytes:
    """Return what a signature record at `seq` signs: its place and all that came before."""
    return seq.to_bytes(8, "little") + bytes.fromhex(prev)
