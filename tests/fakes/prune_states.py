"""What the machine of tests/fakes/prune_machine.py is made of."""

from typing import NamedTuple

OLD, OURS, REWRITTEN = 1, (2, 4), 8  # the first pack; what each host stores; what the pruner does
GRACE_DAYS, LEASE_DAYS = 3, 1
NONE, NOTED, CONDEMNED, SWEPT = range(4)  # steps of a pack

Record = tuple[tuple[int, int], ...]
"""Of each pack: its step, and for how many days."""

NOTHING: Record = ((NONE, 0),) * 4


class Rules(NamedTuple):
    """The rules of docs/decisions/0015-prune.md; a test leaves some out."""

    grace: bool = True  # between condemned and swept
    heeds: bool = True  # runs rely on no pack that is condemned
    look: bool = True  # they look again before an index and a snapshot
    lease: bool = True  # and write it soon after
    journal: bool = True  # who takes over that of an interrupted run relies on what that one did
    put_back: bool = True  # one from before the last snapshot may rely on whatever is condemned
    last_look: bool = True  # the snapshots are read again before packs are deleted
    merge: bool = True  # merges list no condemned pack
    remembered: bool = True  # a run from before what the record remembers commits nothing


class Size(NamedTuple):
    """What is tried together: all at once would be too many states for an ordinary day."""

    hosts: int = 1
    stores: int = 1  # so many of them may store the chunk anew; the others go without
    dies: bool = False  # hosts may, in the midst of a run
    put_back: bool = False  # the first host may be, by an image of its machine
    rewrites: bool = False
    forgets: bool = False  # the record comes to list what was deleted no more


class Host(NamedTuple):
    """One host: its snapshots, its journal, its run."""

    newest: bool = False  # its newest snapshot needs the chunk
    older: bool = False  # an older one does, which retention may remove
    is_unclean: bool = False  # the journal is of an interrupted run
    is_old: bool = False  # the journal was put back
    names: bool = False  # the journal names the chunk
    noted: int = 0  # packs that an interrupted run relied on, by its journal
    is_stale: bool = False  # put back: any was condemned since; else: the record may have forgotten
    image: int = 0  # of the machine: 0 none, 1 whose snapshot needs the chunk, 2 and it is stale
    runs: bool = False
    looked: int = 0  # days ago, at most LEASE_DAYS + 1
    view: int = 0  # packs that it takes for stored
    passed_over: int = 0  # packs that its index lists, and that it does not
    relied: int = 0
    put: int = 0  # stored and not indexed
    has: bool = False  # the coming snapshot needs the chunk
    is_heir: bool = False
    was_condemned: bool = False  # a pack, since the run began
    is_lost: bool = False


class Pruner(NamedTuple):
    """How far a run of prune is."""

    step: str = "idle"
    needed: bool = False  # as the snapshots said
    listed: int = 0
    packs: int = 0
    thin: int = 0  # rewritten
    sweep: int = 0


class State(NamedTuple):
    """Everything."""

    packs: int
    listed: int  # in the index
    ever: int  # packs that were made: no name comes twice
    record: Record
    is_new_day: bool  # since the record
    pruner: Pruner
    hosts: tuple[Host, ...]


def start(size: Size) -> State:
    """Return a vault whose first host has an old snapshot that needs the chunk."""
    first = Host(older=True, image=1 if size.put_back else 0)
    ever = OLD | sum(OURS[size.stores : size.hosts])
    return State(OLD, OLD, ever, NOTHING, False, Pruner(), (first, *[Host()] * (size.hosts - 1)))


def is_broken(state: State) -> bool:
    """Tell whether a snapshot needs the chunk, and no pack that is there is listed for it."""
    return any(h.newest or h.older for h in state.hosts) and not state.listed & state.packs


def at(record: Record, *wanted: int) -> int:
    """Return the packs that a record has at one of these steps."""
    return sum(1 << bit for bit, (step, _) in enumerate(record) if step in wanted)


def doomed_by(record: Record) -> int:
    """Return the packs that no run may rely on."""
    return at(record, CONDEMNED, SWEPT)


def without(record: Record, packs: int) -> Record:
    """Return the record as if it had never listed some packs."""
    return tuple((NONE, 0) if packs >> bit & 1 else one for bit, one in enumerate(record))
