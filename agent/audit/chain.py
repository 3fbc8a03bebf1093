"""The chain as its one writer sees it: a record is durable when `append` returns, or it raises.

Order of an append, under one lock: the line is written and synced, then the signed head.  A crash
between the two leaves a record that nobody was told of (agent/audit/recover.py).
"""

import threading
from typing import Final

from agent.audit.files import AuditFiles
from agent.audit.head import Head, HeadFile, read_head
from agent.audit.log import NoSpace, SyncedLog, unavailable
from agent.audit.records import (
    ENDINGS,
    SIGNATURE_PURPOSE,
    AuditRecord,
    Detail,
    Event,
    Outcome,
    encode,
    line_hash,
    plain,
    plain_details,
    signed_part,
    timestamp,
)
from agent.audit.recover import End, find_end
from agent.audit.reserve import RESERVE_BYTES, Reserve
from agent.clock import Clock
from agent.crypto.signing import SigningKey
from agent.errors import AuditBroken, AuditUnavailable

SIGN_EVERY_RECORDS: Final = 64
SIGN_EVERY_S: Final = 300.0  # a quiet day's records are signed too, with the next one


class AuditChain:
    """Appends records.  Blocks on the disk: call it from threads, any number of them."""

    def __init__(
        self,
        files: AuditFiles,
        signer: SigningKey,
        clock: Clock,
        actor: str,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """Open an existing chain as its only writer; `actor` is the service's own name.

        Raises AuditBroken where the chain is gone, cut or changed at its end, AuditUnavailable
        where it cannot be written.  What a crash tore is cut off, and a record says so.
        """
        self._signer = signer
        self._clock = clock
        self._actor = actor
        self._lock = threading.Lock()
        self._closed = False
        self._failure = ""
        self._exhausted = False
        self._reserve = Reserve(files.reserve, reserve_bytes)
        self._log = SyncedLog(files.chain)
        try:
            end = find_end(self._log.fd, read_head(files.head, signer.verify_key()))
            self._head_file = HeadFile(files.head, signer)
        except OSError as error:
            self._log.close()
            raise unavailable(error) from error
        except AuditBroken:
            self._log.close()
            raise
        self._head = Head(end.seq, end.hash)
        self._signed_seq, self._signed_at = end.seq, clock.monotonic()
        try:
            self._begin(end)
        except BaseException:
            self._let_go()
            raise

    def append(
        self,
        event: Event,
        outcome: Outcome,
        *,
        actor: str,
        action: str = "",
        target: str = "",
        details: dict[str, Detail] | None = None,
    ) -> AuditRecord:
        """Write and sync one record and return it; raise AuditUnavailable: then it counts for none.

        Texts are made plain and bounded (`records.plain`).  With the disk full, the record that
        met it and one saying so go into the reserve's space; from then on only what ends
        something is written, until there is space for a reserve again.
        """
        about = (plain(actor), plain(action), plain(target))
        said = plain_details(details or {})
        with self._lock:
            self._must_work(event)
            return self._durable(event, outcome, about, said)

    def close(self) -> None:
        """Write the last record, signed, and let go of the files, whatever happens.

        Raises AuditUnavailable where the record could not be written.  Calling it again does
        nothing.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._must_work(Event.AUDIT_CLOSED)
                self._own(Event.AUDIT_CLOSED, sign=True)
            finally:
                self._let_go()

    def _begin(self, end: End) -> None:
        """Cut off what a crash tore, mend both slots of the head, say that the chain is open."""
        try:
            self._log.cut(end.size)
            self._head_file.write(self._head)
            self._head_file.write(self._head)
        except OSError as error:
            raise unavailable(error) from error
        self._exhausted = not self._reserve.take()
        if not end.clean:
            details: dict[str, Detail] = {
                "unconfirmed": end.unconfirmed,
                "torn_bytes": end.torn_bytes,
                "torn_blake3": end.torn_hash,
                "damaged_heads": end.damaged_heads,
            }
            self._own(Event.AUDIT_REPAIRED, details)
        self._own(Event.AUDIT_OPENED)

    def _let_go(self) -> None:
        self._closed = True
        self._head_file.close()
        self._log.close()

    def _must_work(self, event: Event) -> None:
        """Raise AuditUnavailable unless a record of `event` may be written now."""
        if self._closed or self._failure:
            raise AuditUnavailable(
                f"the audit takes no record: {self._failure or 'it is closed'}",
                hint="mend the disk where the audit lies, and restart the service",
            )
        if self._exhausted:
            self._regain(event)

    def _regain(self, event: Event) -> None:
        if self._reserve.take():
            self._exhausted = False
            self._own(Event.AUDIT_SPACE_RETURNED)
        elif event not in ENDINGS:
            raise _full()

    def _own(
        self, event: Event, details: dict[str, Detail] | None = None, *, sign: bool = False
    ) -> None:
        """Write a record of the chain's own."""
        self._durable(event, Outcome.SUCCESS, (self._actor, "", ""), details or {}, sign=sign)

    def _durable(
        self,
        event: Event,
        outcome: Outcome,
        about: tuple[str, str, str],
        details: dict[str, Detail],
        *,
        sign: bool = False,
    ) -> AuditRecord:
        """Write one record; where the disk is full, into the reserve's space, and say so."""
        record = self._record(self._head, event, outcome, about, details)
        try:
            self._write(record, sign=sign)
        except NoSpace:
            if self._exhausted:
                raise _full() from None
            self._exhausted = True
            self._spend(record, sign=sign)
        return record

    def _spend(self, record: AuditRecord, *, sign: bool) -> None:
        try:
            self._reserve.release()
            self._write(record, sign=sign)
            about = (self._actor, "", "")
            event = Event.AUDIT_SPACE_EXHAUSTED
            last = self._record(self._head, event, Outcome.FAILED, about, {})
            self._write(last, sign=True)
        except NoSpace:
            raise _full() from None
        except OSError as error:
            raise unavailable(error) from error

    def _write(self, record: AuditRecord, *, sign: bool) -> None:
        """Make `record`, and a signature if one is due, durable, then the head; raise NoSpace."""
        line = encode(record)
        data, head = line + b"\n", Head(record.seq, line_hash(line))
        signed = sign or self._signature_due(head.seq)
        if signed:
            line = encode(self._signature(head))
            data, head = data + line + b"\n", Head(head.seq + 1, line_hash(line))
        try:
            self._log.append(data)
            self._head_file.write(head)
        except OSError as error:
            self._failure = error.strerror or "the disk failed"
            raise unavailable(error) from error
        self._head = head
        if signed:
            self._signed_seq, self._signed_at = head.seq, self._clock.monotonic()

    def _signature_due(self, seq: int) -> bool:
        waited = self._clock.monotonic() - self._signed_at
        return seq - self._signed_seq >= SIGN_EVERY_RECORDS or waited >= SIGN_EVERY_S

    def _signature(self, after: Head) -> AuditRecord:
        part = signed_part(after.seq + 1, after.hash)
        details: dict[str, Detail] = {"signature": self._signer.sign(SIGNATURE_PURPOSE, part).hex()}
        about = (self._actor, "", "")
        return self._record(after, Event.AUDIT_SIGNED, Outcome.SUCCESS, about, details)

    def _record(
        self,
        after: Head,
        event: Event,
        outcome: Outcome,
        about: tuple[str, str, str],
        details: dict[str, Detail],
    ) -> AuditRecord:
        actor, action, target = about
        return AuditRecord(
            seq=after.seq + 1,
            time=timestamp(self._clock.now_ns()),
            event=event,
            outcome=outcome,
            actor=actor,
            action=action,
            object=target,
            details=details,
            prev=after.hash,
        )


def _full() -> AuditUnavailable:
    return AuditUnavailable(
        "the disk of the audit is full",
        hint="free space where the audit lies; nothing is opened until then",
    )
