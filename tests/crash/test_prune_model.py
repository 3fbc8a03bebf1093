"""Prune and hosts as a small machine, every interleaving tried: no needed chunk is ever deleted.

The machine is in tests/fakes/prune_machine.py.  Each rule left out alone lets a needed chunk go:
then the model says so, as it should.  Whole spaces are explored but for two hosts at once, of whom
CI tries what lies nearest the beginning (VITRINE_ROUNDS=5 all, 974,000 states).
"""

from collections import deque

import pytest

from tests.fakes.chance import rounds
from tests.fakes.prune_machine import steps
from tests.fakes.prune_states import Rules, Size, State, is_broken, start

PUT_BACK = Size(dies=True, put_back=True)
FORGETS = Size(dies=True, forgets=True)
REWRITES = Size(stores=0, dies=True, rewrites=True)
TWO_HOSTS = Size(hosts=2, stores=0)
WHERE_NEEDED = {
    "grace": FORGETS,
    "heeds": FORGETS,
    "look": FORGETS,
    "lease": FORGETS,
    "journal": PUT_BACK,
    "put_back": PUT_BACK,
    "last_look": FORGETS,
    "merge": FORGETS,
    "remembered": FORGETS,
}


def explore(rules: Rules, size: Size, most: int | None = None) -> State | None:
    """Return a broken state, or None where none can be reached; look at `most` states."""
    first = start(size)
    seen = {first}
    queue = deque([first])
    while queue and (most is None or len(seen) < most):
        for following in steps(queue.popleft(), rules, size):
            if is_broken(following):
                return following
            if following not in seen:
                seen.add(following)
                queue.append(following)
    assert len(seen) > 100_000, "the model hardly moved"
    return None


@pytest.mark.slow
@pytest.mark.parametrize("size", [PUT_BACK, FORGETS, REWRITES], ids=["back", "forgets", "rewrites"])
def test_no_interleaving_deletes_what_is_needed(size: Size) -> None:
    """All rules in force: in every reachable state every needed chunk is there and listed."""
    assert explore(Rules(), size) is None


@pytest.mark.slow
def test_nor_does_any_of_two_hosts() -> None:
    """One meets what the other's snapshots need, or need no more."""
    assert explore(Rules(), TWO_HOSTS, rounds(200_000)) is None


@pytest.mark.slow
@pytest.mark.parametrize("rule", Rules._fields)
def test_each_rule_is_needed(rule: str) -> None:
    """Left out alone, it lets a needed chunk be deleted, and the model says so."""
    assert explore(Rules()._replace(**{rule: False}), WHERE_NEEDED[rule]) is not None
