"""Users: adding, disabling, listing.  Each change is on record before it is made."""

import base64
from functools import partial
from typing import Final

import trio

from agent.audit.records import Event, Outcome
from agent.control.gate_messages import AddUser, AskUsers, DisableUser, UserAdded, UserLine
from agent.control.gate_messages import Users as UsersAnswer
from agent.control.messages import Done, Message
from agent.control.server import Reply
from agent.control.wire import Peer
from agent.gate.admission import Admission, Question, person
from agent.gate.broker import Broker
from agent.gate.policy import Action, Person, ServiceTarget
from agent.gate.requests import Handlers
from agent.gate.users import Enrolled, User, Users

ISSUER: Final = "Vitrine"


class Administration:
    """Requests about people."""

    def __init__(self, admission: Admission, broker: Broker, users: Users) -> None:
        """Take who is known; a user who is disabled loses their sessions at once."""
        self._admission = admission
        self._broker = broker
        self._users = users

    def handlers(self) -> Handlers:
        """Return what is handled here."""
        return {AddUser: self._add, DisableUser: self._disable, AskUsers: self._list}

    async def _add(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, AddUser)  # noqa: S101 - by the table
        proven = await self._admission.proven(peer, request.factors, Action.ADMINISTER_USERS)
        target = Person(request.uid, frozenset(request.roles), frozenset({request.department}))
        question = Question(Action.ADMINISTER_USERS, target, request.name)
        await self._admission.admit(proven.user, question, proven.factors)
        add = partial(self._users.add, request.name, request.uid, request.roles)
        enrolled = await trio.to_thread.run_sync(add, request.department, request.password)
        roles = ", ".join(sorted(request.roles))
        await self._record(
            Event.USER_ADDED, proven.user, enrolled.user, roles=roles, uid=request.uid
        )
        return user_added(enrolled)

    async def _disable(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, DisableUser)  # noqa: S101 - by the table
        proven = await self._admission.proven(peer, request.factors, Action.ADMINISTER_USERS)
        known = await trio.to_thread.run_sync(self._users.by_name, request.name)
        question = Question(Action.ADMINISTER_USERS, person(known), request.name)
        await self._admission.admit(proven.user, question, proven.factors)
        disabled = await trio.to_thread.run_sync(self._users.disable, request.name)
        await self._broker.end_all("the user was disabled", lambda s: s.user == request.name)
        await self._record(Event.USER_DISABLED, proven.user, disabled)
        return Done()

    async def _list(self, peer: Peer, _request: Message, _: Reply) -> Message:
        user = await self._admission.known(peer)
        await self._admission.admit_unrecorded(user, Question(Action.LIST_USERS, ServiceTarget()))
        known = await trio.to_thread.run_sync(self._users.all)
        return UsersAnswer(
            tuple(
                UserLine(
                    name=one.name,
                    uid=one.uid,
                    roles=tuple(sorted(one.roles)),
                    department=one.department,
                    state=one.state,
                    last_used_ns=one.last_used_ns,
                )
                for one in known
            )
        )

    async def _record(self, event: Event, actor: User, about: User, **details: str | int) -> None:
        await self._broker.record(event, Outcome.SUCCESS, actor.name, about.name, **details)


def user_added(enrolled: Enrolled) -> UserAdded:
    """Return what is shown once of a new user."""
    token = enrolled.token
    return UserAdded(
        name=enrolled.user.name,
        otpauth=token.otpauth_uri(enrolled.user.name, ISSUER),
        secret=base64.b32encode(token.secret).decode(),
        recovery_codes=enrolled.recovery_codes,
    )
