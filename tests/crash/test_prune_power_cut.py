"""The power goes at every moment of a day's prune, over a disk that keeps only what was synced."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from agent.store import exact, local, temporary
from agent.store.local import LocalStore
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import objects, store_of
from tests.fakes.crash_disk import Change, RecordedOs, State, lay_out, states
from tests.fakes.waste import DAYS, Waste

MOMENTS_IN_CI = 100
_numbers = count()


@pytest.fixture
def waste(ram: Path) -> Waste:
    """Return a vault with something to prune on each day."""
    return Waste(ram)


def _recorded(
    waste: Waste, before: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Change], int]:
    """Prune for a day on a recorded disk; return its changes, and how many came before."""
    root = waste.scratch / f"recorded{next(_numbers)}"
    root.mkdir()
    with monkeypatch.context() as patched:
        recorded = RecordedOs(str(root))
        patched.setattr(local, "os", recorded)
        patched.setattr(exact, "os", recorded)
        patched.setattr(temporary, "os", recorded)
        store = LocalStore(root)
        for name, data in before.items():
            store.put(name, [data])
        began = len(recorded.changes)
        waste.day(store, f"recorded{next(_numbers)}")
        store.close()
    return recorded.changes, began


def _found(changes: Sequence[Change], began: int) -> Iterator[State]:
    """Yield, of the states that the disk could be found in, one after each of some moments."""
    luck = chance("moments")
    moments = range(began, len(changes) + 1)
    assert len(moments) > 20
    for moment in luck.sample(moments, min(len(moments), rounds(MOMENTS_IN_CI))):
        yield luck.choice(sorted(states(changes[:moment]), key=_names))


def _names(state: State) -> list[tuple[str, int]]:
    return [(name, -1 if data is None else len(data)) for name, data in state]


@pytest.mark.slow
@pytest.mark.parametrize("day", [0, 5], ids=["rewriting", "sweeping"])
def test_whenever_the_power_goes_under_prune_all_that_is_needed_is_there(
    waste: Waste, day: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next days' runs bring to an end what it had begun."""
    store = store_of(waste.before)
    for _ in range(day):
        waste.day(store, f"day{next(_numbers)}")
    before = objects(store)
    for state in _found(*_recorded(waste, before, monkeypatch)):
        root = waste.scratch / f"found{next(_numbers)}"
        lay_out(state, str(root))
        found = LocalStore(root)
        waste.is_well(found)
        left = store_of(objects(found))
        found.close()
        for _ in range(DAYS):
            waste.day(left, root.name)
        waste.is_well(left)
        assert len(objects(left)) < len(waste.before)
