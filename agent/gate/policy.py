"""Whether somebody may do something, as the policies say: decided here, and nowhere else.

Cedar evaluates; what it cannot evaluate is refused, also where a permit fits: a prohibition that
failed to evaluate must not be one that does not apply.
"""

import enum
from dataclasses import dataclass
from pathlib import Path

import cedarpy

from agent.gate.policytext import PolicyText, load_policies
from agent.gate.users import User


class Action(enum.StrEnum):
    """What can be asked for, by the names that policies use."""

    # about a Vault
    UNLOCK = "unlock"
    RESTORE = "restore"
    LIST_SNAPSHOTS = "list-snapshots"
    TAKE_SNAPSHOT = "take-snapshot"
    DESTROY = "destroy"
    APPROVE = "approve"
    REVOKE_SESSION = "revoke-session"
    # about the Service
    STATUS = "status"
    READ_AUDIT = "read-audit"
    READ_OPERATIONAL_AUDIT = "read-operational-audit"
    LIST_USERS = "list-users"
    MANAGE_KEYS = "manage-keys"
    REVIEW_BREAK_GLASS = "review-break-glass"
    # about a Person
    ADMINISTER_USERS = "administer-users"
    LOCK_USER = "lock-user"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, or whom an action is about."""

    uid: int
    roles: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()

    @classmethod
    def of(cls, user: User) -> "Person":
        """Return a user as the policies see them."""
        return cls(user.uid, frozenset(user.roles), frozenset({user.department}))


@dataclass(frozen=True, slots=True)
class VaultTarget:
    """The vault that an action is about."""

    name: str
    department: str
    level: int


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """The gate itself."""


Target = VaultTarget | ServiceTarget | Person


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else counts.  `about_self`: own session, own request (the schema's `self`)."""

    hour: int
    host: str
    factors: frozenset[str] = frozenset()
    approvals: frozenset[str] = frozenset()
    about_self: bool = False
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, which policies decided it, and which text they are from (BLAKE3).

    No policy and not allowed: nothing permits it.
    """

    allowed: bool
    policies: tuple[str, ...]
    digest: str


class Policy:
    """The policies in force.  Immutable; a reload makes a new one."""

    def __init__(self, directory: Path | None = None) -> None:
        """Load a site's policies, or the shipped ones; raise ConfigInvalid (policytext)."""
        text: PolicyText = load_policies(directory)
        self.digest = text.digest
        self.ids = text.ids
        self._schema = cedarpy.Schema.from_str(text.schema)
        self._policies = cedarpy.PolicySet.from_str(text.policies)

    def decide(
        self, who: Person, action: Action, target: Target, circumstances: Circumstances
    ) -> Decision:
        """Return whether `who` may do `action` to `target`.  Pure, some tens of microseconds."""
        asked, entities = _request(who, action, target, circumstances)
        answer = cedarpy.is_authorized(asked, self._policies, entities, self._schema)
        diagnostics = answer.diagnostics
        names = diagnostics.id_annotations_by_reason
        return Decision(
            allowed=answer.allowed and not diagnostics.errors,
            policies=tuple(sorted(names[reason] for reason in diagnostics.reasons)),
            digest=self.digest,
        )


Entity = dict[str, object]


def _request(
    who: Person, action: Action, target: Target, circumstances: Circumstances
) -> tuple[dict[str, object], list[Entity]]:
    """Return Cedar's request, and the entities it is about."""
    asker, about = _entity(who), _entity(target)
    context: dict[str, object] = {
        "hour": circumstances.hour,
        "host": circumstances.host,
        "factors": sorted(circumstances.factors),
        "approvals": sorted(circumstances.approvals),
        "self": circumstances.about_self,
    }
    if circumstances.purpose:
        context["purpose"] = circumstances.purpose
    asked = {
        "principal": asker["uid"],
        "action": {"type": "Action", "id": str(action)},
        "resource": about["uid"],
        "context": context,
    }
    # who asks about themself is one entity: as they are, not as the request describes them
    return asked, [asker] if asker["uid"] == about["uid"] else [asker, about]


def _entity(thing: Target) -> Entity:
    match thing:
        case Person(uid, roles, departments):
            attributes: dict[str, object] = {
                "roles": sorted(roles),
                "departments": sorted(departments),
            }
            return _made("VitrineUser", str(uid), attributes)
        case VaultTarget(name, department, level):
            return _made("Vault", name, {"department": department, "level": level})
        case ServiceTarget():
            return _made("Service", "gate", {})


def _made(kind: str, name: str, attributes: dict[str, object]) -> Entity:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}
