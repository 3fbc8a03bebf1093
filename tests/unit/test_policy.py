"""The shipped policies are the role table, cell by cell, and nothing beside it."""

from itertools import product

import pytest

from agent.gate.policy import (
    Action,
    Circumstances,
    Person,
    Policy,
    ServiceTarget,
    Target,
    VaultTarget,
)
from agent.gate.roles import Role
from agent.gate.users import User

OWN = VaultTarget("radiology", "radiology", 4)
OTHER = VaultTarget("records", "records", 4)
SOMEBODY = Person(2002, frozenset({"doctor"}), frozenset({"records"}))
SERVICE = ServiceTarget()
BOTH = frozenset({"password", "token"})
A = Action

# What each role may do: "own" department only, or "any"; everything else, nothing.
TABLE: dict[Role, dict[Action, str]] = {
    Role.DOCTOR: {A.UNLOCK: "own", A.LIST_SNAPSHOTS: "own"},
    Role.BACKUP_OPERATOR: {A.TAKE_SNAPSHOT: "any", A.LIST_SNAPSHOTS: "any", A.STATUS: "any"},
    Role.RESTORE_OPERATOR: {A.RESTORE: "any", A.LIST_SNAPSHOTS: "any", A.STATUS: "any"},
    Role.AUDITOR: {
        A.READ_AUDIT: "any",
        A.READ_OPERATIONAL_AUDIT: "any",
        A.LIST_USERS: "any",
        A.STATUS: "any",
    },
    Role.IT_ADMINISTRATOR: {
        A.TAKE_SNAPSHOT: "any",
        A.LIST_SNAPSHOTS: "any",
        A.RESTORE: "any",
        A.READ_OPERATIONAL_AUDIT: "any",
        A.ADMINISTER_USERS: "any",
        A.LIST_USERS: "any",
        A.STATUS: "any",
    },
    Role.DEPARTMENT_HEAD: {A.UNLOCK: "own", A.LIST_SNAPSHOTS: "own", A.APPROVE: "own"},
    Role.IT_HEAD: {A.APPROVE: "any", A.STATUS: "any"},
    Role.SECURITY_OFFICER: {
        A.READ_AUDIT: "any",
        A.READ_OPERATIONAL_AUDIT: "any",
        A.REVIEW_BREAK_GLASS: "any",
        A.REVOKE_SESSION: "any",
        A.LOCK_USER: "any",
        A.LIST_USERS: "any",
        A.STATUS: "any",
    },
    Role.CUSTODIAN: {A.DESTROY: "any", A.MANAGE_KEYS: "any"},
}
NEED_FACTORS = {
    A.UNLOCK,
    A.RESTORE,
    A.DESTROY,
    A.APPROVE,
    A.ADMINISTER_USERS,
    A.MANAGE_KEYS,
    A.REVIEW_BREAK_GLASS,
}
ABOUT_SERVICE = {
    A.STATUS,
    A.READ_AUDIT,
    A.READ_OPERATIONAL_AUDIT,
    A.LIST_USERS,
    A.MANAGE_KEYS,
    A.REVIEW_BREAK_GLASS,
}
ABOUT_PERSON = {A.ADMINISTER_USERS, A.LOCK_USER}
CELLS = list(product(Role, Action, ("own", "other")))


@pytest.fixture(name="policy", scope="module")
def _policy() -> Policy:
    return Policy()


def person(*roles: str) -> Person:
    """Return somebody of radiology."""
    return Person(1001, frozenset(roles), frozenset({"radiology"}))


def target(action: Action, department: str = "own") -> Target:
    """Return what `action` is about, of one's own department or another."""
    if action in ABOUT_SERVICE:
        return SERVICE
    if action in ABOUT_PERSON:
        return SOMEBODY
    return OWN if department == "own" else OTHER


def at(
    factors: frozenset[str] = BOTH, *, about_self: bool = False, hour: int = 14
) -> Circumstances:
    """Return circumstances in which nothing else stands in the way."""
    return Circumstances(
        hour, "gate1", factors, frozenset({"it-head"}), about_self=about_self, purpose="a test"
    )


def test_table_names_every_role() -> None:
    """No role is forgotten here, or a cell of it would go untested."""
    assert TABLE.keys() == set(Role)


@pytest.mark.parametrize(("role", "action", "department"), CELLS)
def test_role_may_what_the_table_says(
    policy: Policy, role: Role, action: Action, department: str
) -> None:
    """Each role, each action, in the own department and in another."""
    granted = TABLE[role].get(action)
    about_one_vault = action not in ABOUT_SERVICE | ABOUT_PERSON
    expected = granted == "any" or (
        granted == "own" and (department == "own" or not about_one_vault)
    )
    decision = policy.decide(person(role), action, target(action, department), at())
    assert decision.allowed == expected
    assert bool(decision.policies) == expected


@pytest.mark.parametrize(("role", "action", "department"), CELLS)
@pytest.mark.parametrize("factors", [set(), {"password"}, {"token"}])
def test_factors_are_both_needed_where_it_matters(
    policy: Policy, role: Role, action: Action, department: str, factors: set[str]
) -> None:
    """Without both, nothing is read, restored, destroyed, approved or administered."""
    circumstances = at(frozenset(factors))
    decision = policy.decide(person(role), action, target(action, department), circumstances)
    if action in NEED_FACTORS:
        assert not decision.allowed
    else:
        whole = policy.decide(person(role), action, target(action, department), at())
        assert decision == whole


@pytest.mark.parametrize("action", list(Action))
def test_nobody_may_anything_without_a_role(policy: Policy, action: Action) -> None:
    """Default deny: no role, an unknown role, or a role by another spelling."""
    for who in (person(), person("king"), person("Doctor"), person("doctor ")):
        decision = policy.decide(who, action, target(action), at())
        assert not decision.allowed
        assert decision.policies == ()


def test_role_without_department_reads_nothing(policy: Policy) -> None:
    """A doctor of no department, or of one with a similar name, has no department of their own."""
    for departments in (frozenset[str](), frozenset({"radiology2"}), frozenset({"Radiology"})):
        who = Person(1001, frozenset({"doctor"}), departments)
        assert not policy.decide(who, A.UNLOCK, OWN, at()).allowed


@pytest.mark.parametrize("action", [A.ADMINISTER_USERS, A.LOCK_USER])
@pytest.mark.parametrize("others", [(), tuple(Role)])
def test_nobody_grants_themself_anything(
    policy: Policy, action: Action, others: tuple[Role, ...]
) -> None:
    """The same uid is the same person, whatever roles the request says they will have."""
    who = person("it-administrator", "security-officer", *others)
    themself = Person(1001, frozenset({"custodian"}), frozenset({"records"}))
    decision = policy.decide(who, action, themself, at())
    assert not decision.allowed
    assert decision.policies == ("nobody-administers-themself",)
    assert not policy.decide(who, action, SOMEBODY, at(about_self=True)).allowed
    assert policy.decide(who, action, SOMEBODY, at()).allowed


@pytest.mark.parametrize("action", [A.APPROVE, A.REVIEW_BREAK_GLASS])
def test_nobody_approves_their_own_request(policy: Policy, action: Action) -> None:
    """With every role there is, still not."""
    who = person(*Role)
    assert policy.decide(who, action, target(action), at()).allowed
    assert not policy.decide(who, action, target(action), at(about_self=True)).allowed


def test_destroying_takes_a_second(policy: Policy) -> None:
    """A custodian alone destroys nothing, nor with somebody who has no say."""
    for approvals, expected in (
        (set[str](), False),
        ({"doctor", "auditor"}, False),
        ({"custodian"}, True),
        ({"department-head"}, True),
    ):
        circumstances = Circumstances(14, "gate1", BOTH, frozenset(approvals))
        assert (
            policy.decide(person("custodian"), A.DESTROY, OTHER, circumstances).allowed == expected
        )


@pytest.mark.parametrize("role", list(Role))
def test_owner_ends_own_session(policy: Policy, role: Role) -> None:
    """Everybody may shut their own case, without factors, and nobody else's but an officer."""
    mine = policy.decide(person(role), A.REVOKE_SESSION, OTHER, at(frozenset(), about_self=True))
    assert mine.allowed
    others = policy.decide(person(role), A.REVOKE_SESSION, OTHER, at())
    assert others.allowed == (role is Role.SECURITY_OFFICER)


def test_decision_names_policies_and_text(policy: Policy) -> None:
    """All the policies that decided, and the hash of the text in force."""
    decision = policy.decide(person("doctor", "department-head"), A.UNLOCK, OWN, at())
    assert decision.policies == (
        "department-head-reads-own-department",
        "doctor-reads-own-department",
    )
    assert decision.digest == policy.digest
    assert len(bytes.fromhex(policy.digest)) == 32


@pytest.mark.parametrize("action", list(Action))
def test_action_about_the_wrong_thing_is_refused(policy: Policy, action: Action) -> None:
    """A request that the schema does not know is no request: everybody is refused."""
    wrong: Target = OWN if action in ABOUT_SERVICE | ABOUT_PERSON else SERVICE
    assert not policy.decide(person(*Role), action, wrong, at(about_self=False)).allowed


def test_awkward_names_are_names(policy: Policy) -> None:
    """Quotes, newlines and Cedar's own syntax in a vault's name or a purpose change nothing."""
    name = 'x"; permit(principal, action, resource); //\n'
    vault = VaultTarget(name, name, 1)
    who = Person(1001, frozenset({"doctor"}), frozenset({name}))
    circumstances = Circumstances(14, name, BOTH, purpose=name)
    assert policy.decide(who, A.UNLOCK, vault, circumstances).allowed
    assert not policy.decide(person("doctor"), A.UNLOCK, vault, circumstances).allowed


def test_user_is_the_person_the_policy_asks_about(policy: Policy) -> None:
    """A user's record says all that a decision needs of them."""
    user = User("doctor1", 1001, frozenset({Role.DOCTOR}), "radiology")
    assert policy.decide(Person.of(user), A.UNLOCK, OWN, at()).allowed
    assert not policy.decide(Person.of(user), A.UNLOCK, OTHER, at()).allowed
