"""Sessions, the audit, the state of things: seeing what goes on, and ending it."""

import os
from collections.abc import Mapping

import msgspec
import trio

from agent.audit.files import AuditFiles, newest_records
from agent.audit.records import OPERATIONAL, Event, Outcome
from agent.audit.verify import verify_chain
from agent.control.gate_messages import (
    AskAudit,
    AskGateStatus,
    AskSessions,
    AuditPage,
    GateStatus,
    Lock,
    Locked,
    SessionInfo,
    Sessions,
)
from agent.control.messages import Message
from agent.control.server import Reply
from agent.control.wire import Peer
from agent.crypto.signing import VerifyKey
from agent.errors import NotFound
from agent.gate.admission import Admission, Question
from agent.gate.broker import Broker
from agent.gate.policy import Action, ServiceTarget, VaultTarget
from agent.gate.requests import Handlers
from agent.gate.sessions import Session
from agent.gate.users import User
from agent.gate.vaults import GateVault

MAX_RECORDS = 5_000  # of at most a few hundred bytes: an answer stays under the frame's limit


class Oversight:
    """Requests about what is going on."""

    def __init__(
        self,
        admission: Admission,
        broker: Broker,
        vaults: Mapping[str, GateVault],
        audit: AuditFiles,
        audit_key: VerifyKey,
        repository: str,
    ) -> None:
        """Take the audit's files and the key it is signed with."""
        self._admission = admission
        self._broker = broker
        self._vaults = vaults
        self._audit = audit
        self._audit_key = audit_key
        self._repository = repository

    def handlers(self) -> Handlers:
        """Return what is handled here."""
        return {
            Lock: self._lock,
            AskSessions: self._sessions,
            AskAudit: self._read_audit,
            AskGateStatus: self._status,
        }

    async def _lock(self, peer: Peer, request: Message, _: Reply) -> Message:
        """Shut one session, or all of the caller's: needs no factor, for it only takes away."""
        assert isinstance(request, Lock)  # noqa: S101 - by the table
        user = await self._admission.known(peer)
        if not request.session:
            mine = await self._broker.end_all("locked", lambda s: s.uid == peer.uid)
            return Locked(tuple(mine))
        session = self._session(request.session)
        if session is None or not self._may_end(user, session):
            raise NotFound("there is no such session of yours", hint="see `vitrine sessions`")
        why = "locked" if session.uid == peer.uid else f"ended by {user.name}"
        await self._broker.end(session.id, why)
        return Locked((session.id,))

    async def _sessions(self, peer: Peer, _request: Message, _: Reply) -> Message:
        user = await self._admission.known(peer)
        seen = [s for s in self._broker.table.all() if self._may_end(user, s)]
        return Sessions(tuple(self._info(session) for session in seen))

    async def _read_audit(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, AskAudit)  # noqa: S101 - by the table
        user = await self._admission.known(peer)
        everything = Question(Action.READ_AUDIT, ServiceTarget())
        whole = self._admission.decide(user, everything).allowed
        if not whole:
            await self._admission.admit(
                user, Question(Action.READ_OPERATIONAL_AUDIT, ServiceTarget())
            )
        kind = "verify" if request.verify else "show"
        await self._broker.record(
            Event.AUDIT_READ, Outcome.SUCCESS, user.name, "", kind=kind, count=request.count
        )
        if request.verify:
            checked = await trio.to_thread.run_sync(verify_chain, self._audit, self._audit_key)
            return AuditPage((), checked.records, checked.signatures)
        count = max(0, min(request.count, MAX_RECORDS))
        records = await trio.to_thread.run_sync(newest_records, self._audit, count)
        return AuditPage(records if whole else tuple(filter(_is_operational, records)))

    async def _status(self, peer: Peer, _request: Message, _: Reply) -> Message:
        user = await self._admission.known(peer)
        await self._admission.admit_unrecorded(user, Question(Action.STATUS, ServiceTarget()))
        return GateStatus(
            sessions=len(self._broker.table.all()),
            vaults=tuple(sorted(self._vaults)),
            repository=self._repository,
            pid=os.getpid(),
        )

    def _session(self, session_id: str) -> Session | None:
        return next((s for s in self._broker.table.all() if s.id == session_id), None)

    def _may_end(self, user: User, session: Session) -> bool:
        keys = self._vaults[session.vault].keys
        target = VaultTarget(session.vault, keys.department, keys.level)
        own = session.uid == user.uid
        question = Question(Action.REVOKE_SESSION, target, session.vault, about_self=own)
        return self._admission.decide(user, question).allowed

    def _info(self, session: Session) -> SessionInfo:
        return SessionInfo(
            session=session.id,
            user=session.user,
            vault=session.vault,
            action=session.action,
            path=self._broker.path_of(session.id),
            started_ns=session.started_ns,
            ends_ns=session.ends_ns,
            idle_ends_ns=self._broker.table.idle_ends_ns(session.id),
        )


def _is_operational(record: str) -> bool:
    return msgspec.json.decode(record).get("event") in OPERATIONAL
