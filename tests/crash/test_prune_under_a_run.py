"""Days of prune between any two store operations of an agent's run, which may then not commit."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.errors import StoreUnavailable
from agent.repository.writer import VaultWriter
from tests.fakes.backups import BackupFixture
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import objects, store_of
from tests.fakes.paused_store import PausedStore
from tests.fakes.waste import DAYS, Waste

STEP = 3  # every operation is paused at in three rounds
TO_THE_END = 12  # days after which nothing that was waste is left
_numbers = count()


class Case(NamedTuple):
    """What is under way when the run begins."""

    day: int  # of pruning
    is_interrupted: bool  # a run before it died when all was stored, but for its snapshot


CASES = [Case(day, interrupted) for day in (1, 2, 5) for interrupted in (False, True)]


@pytest.fixture
def waste(ram: Path) -> Waste:
    """Return a vault with something to prune on each day."""
    return Waste(ram)


@pytest.mark.slow
@pytest.mark.usefixtures("many_checkpoints")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_that_days_of_prune_interrupt_is_whole_or_not_committed(
    waste: Waste, case: Case, expect_log: Callable[..., None]
) -> None:
    """Whatever it had read, found or stored by then; and the next run makes good for it."""
    expect_log("may have been deleted since")
    before = store_of(waste.before)
    for _ in range(case.day):
        waste.day(before, f"day{next(_numbers)}")
    step = max(1, STEP // rounds(1))
    refused, at = 0, chance("pauses").randint(1, step)
    while (was := _paused(waste, objects(before), case, at)) is not None:
        refused += not was
        at += step
    assert refused, "no run was in danger"


def _paused(waste: Waste, before: dict[str, bytes], case: Case, at: int) -> bool | None:
    """Tell whether a run paused at an operation committed; None where it has fewer."""
    inner, name = store_of(before), f"paused{next(_numbers)}"
    store = PausedStore(inner, TO_THE_END, lambda: waste.day(inner, name))
    host = waste.second_host(inner, name, store)
    if case.is_interrupted:
        _interrupt(host)
        host.restart()
    store.pause_at = pause_at = len(store.calls) + at
    committed = _takes_snapshot(host)
    was_paused = len(store.calls) >= pause_at
    waste.is_well(inner)
    assert _takes_snapshot(host) or _takes_snapshot(host)
    assert not host.differences()
    for _ in range(DAYS):
        waste.day(inner, name)
    assert not host.differences()
    waste.is_well(inner)
    host.backup.close()
    return committed if was_paused else None


def _takes_snapshot(host: BackupFixture) -> bool:
    try:
        host.run(force=True)
    except StoreUnavailable:
        return False
    return True


def _interrupt(host: BackupFixture) -> None:
    """Run until all is stored and noted in the journal, and die before the snapshot."""

    def die(self: VaultWriter, snapshot: object) -> None:
        raise StoreUnavailable("the power went")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VaultWriter, "commit", die)
        assert not _takes_snapshot(host)
