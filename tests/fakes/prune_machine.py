"""Hosts, retention and prune as a small machine, for every interleaving of them to be tried.

One chunk that packs may hold, hosts that meet it, rely on it, store it anew, merge indexes, die and
are put back; retention; a pruner that notes, condemns, rewrites, deletes, and dies anywhere; days
that pass at any moment.  What becomes of packs is decided by the code itself.  Time is kept as the
rules see it (days since the last record, since the last look), so the states are finite however
long it runs.  Sets of packs are bits.
"""

from collections.abc import Iterator

from tests.fakes.prune_states import (
    LEASE_DAYS,
    OURS,
    Host,
    Rules,
    Size,
    State,
    doomed_by,
)
from tests.fakes.prune_steps import pruned


def steps(state: State, rules: Rules, size: Size) -> Iterator[State]:
    """Yield every state that one step leads to."""
    yield state._replace(is_new_day=True, hosts=tuple(_older(host) for host in state.hosts))
    yield from pruned(state, rules, size)
    for number, host in enumerate(state.hosts):
        for changed, after in _host(state, number, rules, size):
            assert after.hosts[number] is host
            hosts = (*after.hosts[:number], changed, *after.hosts[number + 1 :])
            yield after._replace(hosts=hosts)


def _host(state: State, number: int, rules: Rules, size: Size) -> Iterator[tuple[Host, State]]:
    host = state.hosts[number]
    if host.older:
        yield host._replace(older=False), state  # retention; the newest it never removes
    if not host.runs:
        yield from ((changed, state) for changed in _waiting(state, host, rules))
        return
    if size.dies:
        yield _idle(host), state
    if not host.has:
        yield from _met(state, number)
    if rules.look and host.looked:
        yield _looked(state, host, rules), state
    if not rules.look or not rules.lease or host.looked <= LEASE_DAYS:
        yield from _written(state, host, rules)


def _waiting(state: State, host: Host, rules: Rules) -> Iterator[Host]:
    """Yield what follows for a host between two runs."""
    begun = _begun(state, host, rules)
    yield begun
    if begun.has:
        yield begun._replace(has=False)  # the file is gone
    if host.image:
        back = host._replace(is_unclean=False, is_old=True, names=True, noted=0, image=0)
        yield back._replace(is_stale=host.image == 2)


def _met(state: State, number: int) -> Iterator[tuple[Host, State]]:
    """Yield what follows where the chunk turns up among the host's files."""
    host, new = state.hosts[number], OURS[number]
    if host.view:
        yield host._replace(has=True, relied=host.relied | host.view & -host.view), state
    elif not state.ever & new:
        stored = host._replace(has=True, view=new, relied=host.relied | new, put=host.put | new)
        yield stored, state._replace(packs=state.packs | new, ever=state.ever | new)


def _written(state: State, host: Host, rules: Rules) -> Iterator[tuple[Host, State]]:
    """Yield an index with a checkpoint of the journal; and, once all is indexed, the snapshot."""
    merged = host.view if rules.merge else host.view | host.passed_over
    open_ = host._replace(put=0, names=host.has, is_unclean=True, noted=host.relied)
    indexed = state._replace(listed=state.listed | merged)
    yield open_._replace(is_stale=host.is_stale or host.is_lost), indexed
    if not host.put:
        done = _idle(host)._replace(is_unclean=False, is_old=False, is_stale=False, noted=0)
        older = host.older or host.newest
        yield done._replace(newest=host.has, names=host.has, older=older), state


def _begun(state: State, host: Host, rules: Rules) -> Host:
    """Read record, index and journal; adopt what an interrupted run left."""
    doomed = doomed_by(state.record) if rules.heeds else 0
    has = host.names if host.is_unclean or host.is_old else host.newest
    is_suspect = rules.put_back if host.is_old else host.is_unclean and rules.journal
    if is_suspect and (host.is_stale or host.noted & doomed):
        has, host = False, host._replace(noted=0, is_stale=False, is_old=False, is_unclean=True)
    takes_over = host.is_unclean or (host.is_old and rules.put_back)
    orphans = state.packs & ~state.listed & ~doomed if takes_over else 0
    return host._replace(
        runs=True,
        view=state.listed & ~doomed | orphans,
        passed_over=0 if rules.merge else state.listed & doomed,
        relied=orphans | (host.noted if rules.journal else 0),
        put=orphans,
        has=has,
        is_heir=host.is_old and rules.put_back,
        names=has,
    )


def _looked(state: State, host: Host, rules: Rules) -> Host:
    doomed = doomed_by(state.record) if rules.heeds else 0
    if host.is_lost or (host.is_heir and host.was_condemned) or host.relied & doomed:
        return _idle(host)
    over = 0 if rules.merge else host.passed_over | host.view & doomed
    return host._replace(view=host.view & ~doomed, passed_over=over, looked=0)


def _idle(host: Host) -> Host:
    return host._replace(
        runs=False, looked=0, view=0, passed_over=0, relied=0, put=0, has=False,
        is_heir=False, was_condemned=False, is_lost=False,
    )  # fmt: skip


def _older(host: Host) -> Host:
    """Return the host a day later."""
    return host._replace(looked=min(host.looked + 1, LEASE_DAYS + 1)) if host.runs else host
