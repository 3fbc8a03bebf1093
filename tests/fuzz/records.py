"""Fuzz targets of what is told and recorded: messages, the audit, signed reports."""

import socket
from collections.abc import Iterator

from agent.audit.files import AuditFiles, newest_records
from agent.audit.head import Head, HeadRead, read_head
from agent.audit.records import AuditRecord, decode, encode, line_hash, plain
from agent.audit.recover import find_end
from agent.audit.verify import verify_chain
from agent.control import wire
from agent.control.agent_messages import SnapshotTaken, TakeSnapshot
from agent.control.gate_messages import Factors, Restore, Unlock
from agent.control.messages import Done, Failed
from agent.control.session_messages import MoreSnapshots
from agent.crypto.signing import SigningKey
from agent.drill.hashes import Compared
from agent.drill.report import DrillReport, HostDrill, Restored, verified
from agent.errors import AuditBroken, ObjectDamaged, ProtocolError
from tests.fuzz.target import KiB, Target, file_of
from tests.vectors.generate import HERE

_AUDIT_SIGNER = SigningKey(bytes(range(32)))
_AUDIT_KEY = _AUDIT_SIGNER.verify_key()
_FROZEN = AuditFiles.under(HERE / "audit")
_MESSAGES = (
    Done(),
    Failed("NotFound", "no such vault"),
    TakeSnapshot("radiology", full=True),
    SnapshotTaken("radiology", "ab" * 32, 1, 2, 3, 4, 5, 0.5, 0),
    Unlock("radiology", Factors("a password", "123456"), "yesterday"),
    Restore("radiology", Factors(), "/srv", (b"images/caf\xe9",)),
    MoreSnapshots((b"\x80", b"\x81")),
)


def _message(data: bytes) -> None:
    """Check that a message that is understood is sent on as the same."""
    encoded = wire.encode(wire.decode(data))
    assert wire.payload_length(encoded[:4]) == len(encoded) - 4
    assert wire.encode(wire.decode(encoded[4:])) == encoded


def _frames(data: bytes) -> None:
    """Check that a peer that sends anything ends the connection, or breaks the protocol."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        connection = wire.BlockingConnection(ours)
        while connection.receive() is not None:
            continue


def _lines() -> Iterator[bytes]:
    yield from _FROZEN.chain.read_bytes().splitlines()


def _record(data: bytes) -> None:
    """Check that a record that is accepted has one form, on one line, as any text can."""
    text = plain(data.decode(errors="replace"))
    assert plain(text) == text
    assert "\n" not in text
    record = decode(data, 1)
    assert encode(record) == data
    assert b"\n" not in data
    assert isinstance(record, AuditRecord)


def _chain(data: bytes) -> None:
    """Check that a changed chain does not verify; its newest records can be shown all the same."""
    with file_of(data) as chain:
        files = _FROZEN._replace(chain=chain)
        assert len(newest_records(files, 3)) <= 3
        verified = verify_chain(files, _AUDIT_KEY)
    frozen = _FROZEN.chain.read_bytes()
    assert data.startswith(frozen)
    assert verified.records >= frozen.count(b"\n")


def _chain_end(data: bytes) -> None:
    """Check that what follows the record that the head vouches for links to it, or is torn."""
    first, _, _ = data.partition(b"\n")
    with file_of(data) as chain, chain.open("rb") as file:
        end = find_end(file.fileno(), HeadRead(Head(1, line_hash(first)), 0))
    assert end.seq >= 1
    assert end.size + end.torn_bytes == len(data)


def _head(data: bytes) -> None:
    """Check that only what the chain's key signed is a head."""
    with file_of(data) as path:
        assert read_head(path, _AUDIT_KEY).head.seq >= 0


def _drill_report(data: bytes) -> None:
    """Check that what verifies is what was signed: written again, it verifies too."""
    report = verified(data, _AUDIT_SIGNER.verify_key())
    assert verified(report.encode(), _AUDIT_SIGNER.verify_key()) == report


def _drill_reports() -> Iterator[bytes]:
    back = Restored(1, 2, 0, 0.5, Compared(1, 2, 0, 0, 0))
    host = HostDrill("ab" * 16, "cd" * 32, 1, 0, 1, 2, 0.25, sample=back, whole=back)
    report = DrillReport("radiology", 1, 2.5, 3.5, 4.5, is_measured=True, hosts=(host,))
    yield report.signed(_AUDIT_SIGNER).encode()


TARGETS = (
    Target(
        "message",
        ("agent.control.wire:decode",),
        _message,
        errors=(ProtocolError,),
        seeds=lambda: [wire.encode(message)[4:] for message in _MESSAGES],
    ),
    Target(
        "frames",
        ("agent.control.wire:BlockingConnection", "agent.control.wire:payload_length"),
        _frames,
        errors=(ProtocolError,),
        seeds=lambda: [b"".join(map(wire.encode, _MESSAGES))],
    ),
    Target(
        "audit_record",
        ("agent.audit.records:decode", "agent.audit.records:plain"),
        _record,
        errors=(AuditBroken,),
        seeds=_lines,
    ),
    Target(
        "audit_chain",
        ("agent.audit.verify:verify_chain", "agent.audit.files:newest_records"),
        _chain,
        errors=(AuditBroken,),
        seeds=lambda: [_FROZEN.chain.read_bytes()],
        max_bytes=8 * KiB,
    ),
    Target(
        "audit_end",
        ("agent.audit.recover:find_end", "agent.audit.files:read_tail"),
        _chain_end,
        errors=(AuditBroken,),
        seeds=lambda: [_FROZEN.chain.read_bytes()],
        max_bytes=8 * KiB,
    ),
    Target(
        "audit_head",
        ("agent.audit.head:read_head",),
        _head,
        errors=(AuditBroken,),
        seeds=lambda: [_FROZEN.head.read_bytes()],
        max_bytes=10 * KiB,
    ),
    Target(
        "drill_report",
        ("agent.drill.report:verified",),
        _drill_report,
        errors=(ObjectDamaged,),
        seeds=_drill_reports,
    ),
)
