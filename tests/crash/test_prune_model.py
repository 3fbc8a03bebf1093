"""Prune and agents as a small machine, every interleaving tried: no needed chunk is ever deleted.

One chunk, in pack P, that no snapshot needs any more; agents that meet its content again and rely
on it or store it anew; a pruner that notes, condemns, sweeps, and stops anywhere; days that pass at
any moment.  The rules are those of docs/decisions/0015-prune.md, and the fates of packs are decided
by the code itself.  Each rule left out alone lets a needed chunk be deleted: then the model fails,
as it should.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from agent.maintenance.prune.fates import DAY_NS, Waits, decide
from agent.model.ids import PackId, VaultId
from agent.repository.condemned import Leaving, PackRecord

OLD, NEW = PackId(b"P" * 32), PackId(b"Q" * 32)  # where the chunk lay; where it is stored again
VAULT = VaultId(bytes(16))
WAITS = Waits(min_age_ns=3 * DAY_NS, grace_ns=3 * DAY_NS)
LEASE_DAYS = 1
LONGEST_RUN_DAYS = 9  # longer than all waits together: then the lease has to do
MAX_DAYS = 9


class Rules(NamedTuple):
    """The rules; a test leaves one out."""

    min_age: bool = True  # packs of runs under way are not condemned
    grace: bool = True  # between condemned and swept
    heeds: bool = True  # agents do not rely on condemned packs
    lease: bool = True  # a long run looks again before it commits
    journal: bool = True  # an interrupted run's journal is rebuilt after packs were condemned
    last_look: bool = True  # the pruner marks again before it sweeps


class Agent(NamedTuple):
    """One host: `holds` is the pack its coming snapshot relies on for the chunk."""

    running: bool = False
    started: int = 0  # the day it read index and record
    doomed: frozenset[PackId] = frozenset()  # by the record it read
    holds: PackId | None = None
    unclean: PackId | None = None  # what an interrupted run's journal names
    noted: int = 0  # the record at that time
    wants: bool = True  # meets the content once


class State(NamedTuple):
    """The repository, and both sides."""

    day: int
    packs: frozenset[PackId]
    needed: frozenset[PackId]  # packs that a snapshot relies on
    record: PackRecord
    record_day: int
    marked: frozenset[PackId] | None  # the pruner's view of what is needed, between its steps
    agent: Agent


START = State(0, frozenset({OLD}), frozenset(), PackRecord(VAULT, 0, 0), 0, None, Agent())


def is_broken(state: State) -> bool:
    """Tell whether a snapshot needs a chunk that is in no pack."""
    return bool(state.needed) and not state.needed & state.packs


def explore(rules: Rules) -> State | None:
    """Return a broken state that can be reached, or None where there is none."""
    seen = {START}
    queue = deque([START])
    while queue:
        for following in steps(queue.popleft(), rules):
            if is_broken(following):
                return following
            if following not in seen:
                seen.add(following)
                queue.append(following)
    assert len(seen) > 1000, "the model hardly moved"
    return None


def steps(state: State, rules: Rules) -> Iterator[State]:
    """Yield every state that one step leads to."""
    if state.day < MAX_DAYS and not _is_too_old(state):
        yield state._replace(day=state.day + 1)
    yield from _agent_steps(state, rules)
    yield from _pruner_steps(state, rules)


def _is_too_old(state: State) -> bool:
    """Tell whether a run has lasted as long as the model looks at."""
    agent = state.agent
    return agent.running and state.day - agent.started >= LONGEST_RUN_DAYS


def _agent_steps(state: State, rules: Rules) -> Iterator[State]:
    agent, record = state.agent, state.record
    if not agent.running:
        yield state._replace(agent=_started(agent, state, rules))
        return
    if agent.wants:  # the content turns up
        known = agent.holds or _known(state, agent)
        if known is not None:
            yield state._replace(agent=agent._replace(holds=known, wants=False))
        else:
            yield state._replace(
                packs=state.packs | {NEW}, agent=agent._replace(holds=NEW, wants=False)
            )
    if agent.holds is not None:
        late = state.day - agent.started > LEASE_DAYS
        if rules.lease and late and agent.holds in record.doomed():
            yield state._replace(agent=Agent(noted=record.number))  # begins anew
        else:
            needed = state.needed | {agent.holds}
            yield state._replace(needed=needed, agent=Agent(wants=False))
        unclean = agent._replace(running=False, holds=None, unclean=agent.holds)
        yield state._replace(agent=unclean)  # dies before its snapshot


def _started(agent: Agent, state: State, rules: Rules) -> Agent:
    """Begin a run: it reads index and record, and perhaps believes its journal."""
    record = state.record
    doomed = record.doomed() if rules.heeds else frozenset[PackId]()
    holds = agent.unclean
    if rules.journal and holds is not None and record.condemning > agent.noted:
        holds = None
    return Agent(True, state.day, doomed, holds, None, record.number, agent.wants or holds is None)


def _known(state: State, agent: Agent) -> PackId | None:
    """Return a pack that the agent's index lists, and its record does not condemn."""
    listed = state.packs - agent.doomed
    return min(listed, default=None)


def _pruner_steps(state: State, rules: Rules) -> Iterator[State]:
    if state.marked is None:  # reads the snapshots
        if state.record_day < state.day or not state.record.number:
            yield state._replace(marked=state.needed)
        return
    yield state._replace(marked=None)  # dies
    marked = state.marked if rules.last_look else frozenset[PackId]()
    waits = WAITS
    if not rules.min_age:
        waits = waits._replace(min_age_ns=0)
    before = state.record
    if not rules.grace:
        before = _aged(before)
    fates = decide(
        before,
        state.packs - marked,
        now_ns=state.day * DAY_NS,
        elapsed_ns=(state.day - state.record_day) * DAY_NS,
        waits=waits,
    )
    after = state._replace(record=_plain(fates.record), record_day=state.day, marked=None)
    yield after  # dies between record and deletion
    yield after._replace(packs=state.packs - set(fates.sweep))


def _aged(record: PackRecord) -> PackRecord:
    """Return the record as if every condemned pack had waited long enough."""
    old = tuple(Leaving(one.pack, 99 * DAY_NS) for one in record.condemned)
    return PackRecord(
        record.vault, record.number, record.time_ns, record.unreferenced, old, record.swept,
        record.condemning,
    )  # fmt: skip


def _plain(record: PackRecord) -> PackRecord:
    """Return the record with small numbers only, so that states that behave alike are one."""
    return PackRecord(
        record.vault, record.number, 0, record.unreferenced, record.condemned,
        tuple(Leaving(one.pack) for one in record.swept), record.condemning,
    )  # fmt: skip


def test_no_interleaving_deletes_what_is_needed() -> None:
    """All rules in force: every reachable state has every needed chunk."""
    assert explore(Rules()) is None


@pytest.mark.parametrize("rule", ["grace", "heeds", "journal", "last_look", "lease"])
def test_each_rule_is_needed(rule: str) -> None:
    """Left out alone, it lets a needed chunk be deleted, and the model says so."""
    assert explore(Rules()._replace(**{rule: False})) is not None
