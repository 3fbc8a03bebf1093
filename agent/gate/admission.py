"""Who asks, what they prove, whether they may: each answer on record before it has any effect.

From outside every refusal is the same: the same words, the same status, the same work.  What was
wrong stands in the audit alone.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

import trio

from agent.audit.records import Detail, Event, Outcome
from agent.clock import Clock, utc
from agent.control.gate_messages import Factors
from agent.control.wire import Peer
from agent.errors import AccessDenied
from agent.gate.factors import FactorCheck, Proven
from agent.gate.policy import Action, Circumstances, Decision, Person, Policy, Target
from agent.gate.users import User, Users


class Record(Protocol):
    """Puts one record on the chain, synced."""

    def __call__(
        self, event: Event, outcome: Outcome, actor: str, target: str, /, **details: Detail
    ) -> Awaitable[None]:
        """Return when it is durable; raise AuditUnavailable where it cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to do, and what else counts."""

    action: Action
    target: Target
    name: str = ""  # of the target, as the record shows it
    about_self: bool = False
    purpose: str = ""


class Admission:
    """Decides on requests.  Methods are for the event loop; disks and hashes wait in threads."""

    def __init__(
        self,
        users: Users,
        factors: FactorCheck,
        policy: Callable[[], Policy],
        record: Record,
        clock: Clock,
        host: str,
    ) -> None:
        """Take who is known, how they prove it, and the policy in force at each moment."""
        self._users = users
        self._factors = factors
        self._policy = policy
        self._record = record
        self._clock = clock
        self._host = host

    async def known(self, peer: Peer) -> User:
        """Return the active user behind a connection, on the kernel's word alone."""
        user = await trio.to_thread.run_sync(self._users.by_uid, peer.uid)
        if user is None or user.disabled or user.locked:
            await self._refuse(f"uid {peer.uid}", "", why="unknown, disabled or locked")
        return user

    async def everybody(self) -> tuple[User, ...]:
        """Return all users who are neither disabled nor locked."""
        known = await trio.to_thread.run_sync(self._users.all)
        return tuple(user for user in known if not (user.disabled or user.locked))

    async def proven(self, peer: Peer, factors: Factors, action: Action) -> Proven:
        """Return who it is and what they have proven; both factors are looked at either way."""
        result = await trio.to_thread.run_sync(self._factors.verify, peer.uid, factors)
        who = result.user.name if result.user else f"uid {peer.uid}"
        if not isinstance(result, Proven):
            details = {"action": str(action), "reason": str(result.reason)}
            await self._record(Event.AUTHENTICATION, Outcome.REFUSED, who, "", **details)
            raise refused()
        shown = "+".join(sorted(result.factors))
        by_code = {"recovery_code": True} if result.recovery_code else {}
        await self._record(Event.AUTHENTICATION, Outcome.SUCCESS, who, "", factors=shown, **by_code)
        return result

    async def admit(
        self, user: User, question: Question, factors: frozenset[str] = frozenset()
    ) -> Decision:
        """Return the decision if it is yes, put on record; raise AccessDenied if it is no."""
        decision = self.decide(user, question, factors)
        outcome = Outcome.SUCCESS if decision.allowed else Outcome.REFUSED
        details: dict[str, Detail] = {
            "action": str(question.action),
            "policies": ", ".join(decision.policies) or "none permits it",
            "policy": decision.digest,
        }
        if question.purpose:
            details["purpose"] = question.purpose
        await self._record(Event.ACCESS_DECIDED, outcome, user.name, question.name, **details)
        if not decision.allowed:
            raise refused()
        return decision

    async def admit_unrecorded(self, user: User, question: Question) -> None:
        """Raise AccessDenied, put on record, unless it is allowed; a yes reveals nothing."""
        if not self.decide(user, question).allowed:
            await self.admit(user, question)

    def decide(
        self, user: User, question: Question, factors: frozenset[str] = frozenset()
    ) -> Decision:
        """Return what the policy says, without a record: for what reveals nothing."""
        circumstances = Circumstances(
            hour=utc(self._clock.now_ns()).astimezone().hour,
            host=self._host,
            factors=factors,
            about_self=question.about_self,
            purpose=question.purpose,
        )
        return self._policy().decide(person(user), question.action, question.target, circumstances)

    async def unknown_vault(self, user: User, action: Action) -> NoReturn:
        """Refuse a vault that is not there as one that may not be seen."""
        await self._refuse(user.name, "", action=str(action), why="no such vault")

    async def _refuse(self, actor: str, target: str, **details: Detail) -> NoReturn:
        await self._record(Event.ACCESS_DECIDED, Outcome.REFUSED, actor, target, **details)
        raise refused()


def person(user: User) -> Person:
    """Return a user as the policy sees them."""
    return Person(user.uid, frozenset(user.roles), frozenset({user.department}))


def refused() -> AccessDenied:
    """Return the one refusal there is."""
    return AccessDenied(
        "refused", hint="the reason is on record: ask an administrator or the security officer"
    )
