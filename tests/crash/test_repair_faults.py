"""Repair broken at each thing it changes, and at any read: the next run ends what was begun."""

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from agent.errors import VitrineError
from agent.maintenance.repair import RepairReport
from agent.repository import layout
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.chance import rounds
from tests.fakes.contents import objects, store_of
from tests.fakes.damage import three_pieces_of_a_group, two_pieces_a_group, two_sectors
from tests.fakes.faulty_store import Fault, FaultyStore
from tests.unit.test_repair import Site

CHANGES = ("put", "delete")
READS = ("get", "get_range", "size", "list")
SAMPLE = 40  # of the reads, in CI
WAYS = {"before": Fault.BEFORE, "after": Fault.AFTER, "torn": Fault.TORN, "full": Fault.FULL}
_numbers = count()


class Broken(Site):
    """A small site in which one of everything is damaged."""

    def __init__(self, scratch: Path) -> None:
        """Damage it: a pack beyond parity, others within, indexes, parity, small ones."""
        super().__init__(scratch, commits=5)
        large = sorted(self.packs, key=lambda name: -len(self.whole[name]))
        self.damage(large[0], three_pieces_of_a_group)
        self.damage(large[1], two_pieces_a_group)
        self.damage(large[-1], two_sectors)
        self.flip(next(name for name in self.whole if "/writers/" in name and "parity" not in name))
        self.flip(next(name for name in self.whole if name.startswith("snapshots/")))
        self.flip(layout.parity_of(large[2]) or "", 90)
        indexes = [name for name in self.whole if name.startswith("index/")]
        self.flip(indexes[0])
        self.store.delete(indexes[1])
        self.lost = large[0]
        self.damaged = objects(self.store)

    def runs(self, store: Store, *, drop: bool = False) -> RepairReport:
        """Repair, as a process that begins anew: from the copy, or dropping what is lost."""
        self.store = store  # type: ignore[assignment]  # any store: nothing else is asked of it
        self.scratch = self.scratch.parent / str(next(_numbers))
        return self.repair(drop=drop, copy=None if drop else store_of(self.whole))

    def attempts(
        self, fault: Fault, counted: tuple[str, ...], *, step: int = 1, drop: bool = False
    ) -> Iterator[MemoryStore]:
        """Yield the store after a run that failed for good at the n-th operation, for each n."""
        healthy = FaultyStore(store_of(self.damaged), counted=counted)
        self.runs(healthy, drop=drop)
        for at in range(1, healthy.operations + 1, step):
            inner = store_of(self.damaged)
            store = FaultyStore(
                inner, fail_at=at, fault=fault, counted=counted, stays_down=fault is not Fault.FULL
            )
            try:
                report = self.runs(store, drop=drop)
            except VitrineError:
                pass
            else:
                assert report.lost or report.damaged, "what could not be read was told"
            yield inner


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Let damaged indexes be left out without a word: which are, depends on the fault."""
    caplog.set_level(logging.ERROR, "agent.repository.indexcache")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """Return one such site for the module."""
    return Broken(tmp_path_factory.mktemp("broken") / "site")


def is_whole(site: Broken, store: Store) -> None:
    """Check that everything is as it was, but for indexes, which were made anew.

    Parity that was about to be replaced may be gone: it is made again as what is missing is.
    """
    assert site.make_parity().damaged == ()
    found = {name: data for name, data in objects(store).items() if "index/" not in name}
    assert found == {name: data for name, data in site.whole.items() if "index/" not in name}
    assert site.is_clean()


@pytest.mark.parametrize("fault", WAYS.values(), ids=WAYS)
def test_whatever_change_of_a_repair_fails_the_next_run_ends_it(
    broken: Broken, fault: Fault
) -> None:
    """Every put and every delete: nothing is lost that was not before, and all comes back."""
    tried = 0
    for store in broken.attempts(fault, CHANGES):
        assert broken.runs(store).lost == ()
        is_whole(broken, store)
        tried += 1
    assert tried > 20


def test_a_repository_that_cannot_be_read_for_a_while_is_not_harmed(broken: Broken) -> None:
    """Reads fail from any one on: damage is believed in only as far as proof replaces it."""
    healthy = FaultyStore(store_of(broken.damaged), counted=READS)
    broken.runs(healthy)
    step = max(1, healthy.operations // rounds(SAMPLE))
    for store in broken.attempts(Fault.BEFORE, READS, step=step):
        assert broken.runs(store).lost == ()
        is_whole(broken, store)


@pytest.mark.parametrize("fault", WAYS.values(), ids=WAYS)
def test_whatever_fails_while_a_pack_is_put_aside_the_next_run_ends_it(
    broken: Broken, fault: Fault
) -> None:
    """Its bytes are never gone from both names, and in the end no index lists it."""
    bytes_left = broken.damaged[broken.lost]
    for store in broken.attempts(fault, CHANGES, drop=True):
        held = objects(store)
        pack = layout.pack_id(broken.lost)
        assert pack is not None
        aside = layout.quarantined(pack)
        assert bytes_left in {held.get(broken.lost), held.get(aside)}
        report = broken.runs(store, drop=True)
        assert report.lost == ()
        held = objects(store)
        assert held[aside] == bytes_left
        assert broken.lost not in held
        listed = {
            row.id for file in broken.caches()(broken.secrets.reader()).refresh().files
            for row in file.packs()
        }  # fmt: skip
        assert pack not in listed
