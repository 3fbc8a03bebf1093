"""The pruner of the machine of tests/fakes/prune_machine.py."""

from collections.abc import Iterator
from functools import cache

from agent.maintenance.prune.fates import DAY_NS, Waits, decide
from agent.model.ids import PackId, VaultId
from agent.repository.condemned import Leaving, PackRecord
from tests.fakes.prune_states import (
    CONDEMNED,
    GRACE_DAYS,
    NONE,
    NOTED,
    NOTHING,
    REWRITTEN,
    SWEPT,
    Host,
    Pruner,
    Record,
    Rules,
    Size,
    State,
    at,
    without,
)

_VAULT = VaultId(bytes(16))


def pruned(state: State, rules: Rules, size: Size) -> Iterator[State]:
    """Yield what follows where the pruner takes its next step, or dies."""
    now = state.pruner
    if now.step == "idle":
        needed = any(host.newest or host.older for host in state.hosts)
        yield state._replace(pruner=Pruner("marked", needed, state.listed, state.packs))
        return
    yield state._replace(pruner=Pruner())  # dies
    if now.step == "marked":
        yield from _recorded(state, rules, size)
        if size.rewrites and now.needed and not state.ever & REWRITTEN:
            put = now._replace(step="rewriting", thin=_chosen(state))
            made = state._replace(packs=state.packs | REWRITTEN, ever=state.ever | REWRITTEN)
            yield made._replace(pruner=put)
    elif now.step == "rewriting":
        indexed = state._replace(listed=state.listed | REWRITTEN)
        yield indexed._replace(pruner=now._replace(step="marked"))
    elif now.step == "recorded":
        stripped = state._replace(listed=state.listed & ~now.sweep)
        yield stripped._replace(pruner=now._replace(step="sweeping"))
    elif now.sweep:
        gone = now.sweep & -now.sweep
        left = state._replace(packs=state.packs & ~gone)
        yield left._replace(pruner=now._replace(sweep=now.sweep & ~gone))


def _recorded(state: State, rules: Rules, size: Size) -> Iterator[State]:
    """Decide, look at what may go, and put the record."""
    now = state.pruner
    unreferenced = now.packs
    if now.needed:
        unreferenced &= ~_chosen(state) | now.thin
    if not rules.last_look:
        unreferenced |= now.packs & at(state.record, CONDEMNED)
    missing = now.listed & ~now.packs
    record, sweep = _decided(state.record, unreferenced, missing, state.is_new_day, rules.grace)
    if rules.last_look and now.needed and not now.listed & state.packs & ~sweep:
        unreferenced &= ~sweep  # nobody else has it
        record, sweep = _decided(state.record, unreferenced, missing, state.is_new_day, rules.grace)
    hosts = state.hosts
    if at(record, CONDEMNED) & ~at(state.record, CONDEMNED):
        hosts = tuple(_hears(host) for host in hosts)
    after = Pruner("recorded", sweep=sweep)
    noted = state._replace(record=record, is_new_day=False, pruner=after, hosts=hosts)
    yield noted
    gone = at(record, SWEPT) & ~(now.packs | now.listed)
    if size.forgets and gone:
        late = tuple(
            h._replace(
                is_lost=h.is_lost or (h.was_condemned and rules.remembered),
                is_stale=h.is_stale or (h.is_unclean and rules.remembered),
            )
            for h in hosts
        )
        yield noted._replace(record=without(record, gone), hosts=late)


def _chosen(state: State) -> int:
    """Return the pack that counts as needed: the first that is not on its way out, else any."""
    there = state.pruner.listed & state.pruner.packs
    best = there & ~at(state.record, NOTED, CONDEMNED, SWEPT) or there
    return best & -best


@cache
def _decided(
    record: Record, unreferenced: int, missing: int, is_new_day: bool, has_grace: bool
) -> tuple[Record, int]:
    """Ask the code under test."""
    lists: dict[int, list[Leaving]] = {NOTED: [], CONDEMNED: [], SWEPT: []}
    for bit, (step, days) in enumerate(record):
        if step != NONE:
            waited = days if has_grace or step != CONDEMNED else GRACE_DAYS
            lists[step].append(Leaving(_pack(bit), waited * DAY_NS))
    before = PackRecord(
        _VAULT, 1, 0, tuple(lists[NOTED]), tuple(lists[CONDEMNED]), tuple(lists[SWEPT])
    )
    fates = decide(
        before,
        [_pack(bit) for bit in _bits(unreferenced)],
        [_pack(bit) for bit in _bits(missing)],
        now_ns=0,
        elapsed_ns=DAY_NS if is_new_day else 0,
        waits=Waits(0, GRACE_DAYS * DAY_NS),  # noted once: to wait longer would only be kinder
    )
    found = list(NOTHING)
    found_lists = (fates.record.unreferenced, fates.record.condemned, fates.record.swept)
    for step, leaving in zip((NOTED, CONDEMNED, SWEPT), found_lists, strict=True):
        for one in leaving:
            days = min(one.age_ns // DAY_NS, GRACE_DAYS) if step == CONDEMNED else 0
            found[one.pack[0]] = step, days
    return tuple(found), sum(1 << pack[0] for pack in fates.sweep)


def _pack(bit: int) -> PackId:
    return PackId(bytes([bit]) * 32)


def _bits(packs: int) -> list[int]:
    return [bit for bit in range(4) if packs >> bit & 1]


def _hears(host: Host) -> Host:
    """Return the host after a record that condemned a pack."""
    return host._replace(
        was_condemned=host.runs,
        is_stale=host.is_stale or host.is_old,
        image=2 if host.image else 0,
    )
