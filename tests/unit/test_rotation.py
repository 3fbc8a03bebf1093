"""A month of daily runs reads every byte once, heals what it finds, and remembers."""

import os
from pathlib import Path

import pytest

from agent.maintenance.heal import Healer
from agent.maintenance.rotation import RotatingVerify, RotationReport, part_of
from agent.maintenance.rotationstate import PARTS, Part, Rotation, load
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.contents import objects
from tests.fakes.damage import three_pieces_of_a_group, two_sectors
from tests.fakes.stores import RecordingStore
from tests.unit.test_repair import Site

DAY = 24 * 3600.0


class Month:
    """Daily runs over one repository."""

    def __init__(self, site: Site, directory: Path) -> None:
        """Start with nothing remembered."""
        self.site = site
        self.clock = FakeClock()
        self.path = directory / "rotation.json"
        self.store: MemoryStore | RecordingStore = site.store

    def day(self, *, repair: bool = True, days: float = 1) -> RotationReport:
        """Run once, then let a day pass."""
        healer = Healer(self.store, Genuine(self.store, self.site.keys))
        job = RotatingVerify(self.store, healer, self.clock, self.path)
        report = job.run(lambda *_: None, repair=repair)
        self.clock.advance(days * DAY)
        return report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return one site for the module."""
    return Site(tmp_path_factory.mktemp("rotating"), commits=40)


@pytest.fixture
def month(made: Site, tmp_path: Path) -> Month:
    """Return a month over the undamaged site."""
    made.again()
    return Month(made, tmp_path)


def test_thirty_days_read_every_byte_once(month: Month) -> None:
    """Each day another part; packs and their parity on the same day."""
    reports = [month.day() for _ in range(PARTS)]
    assert sorted(report.parts for report in reports) == [(number,) for number in range(PARTS)]
    assert sum(report.objects for report in reports) == len(month.site.whole) - 2
    sizes = sum(len(data) for name, data in month.site.whole.items() if "repository" not in name)
    assert sum(report.read_bytes for report in reports) == sizes
    assert reports[-1].rotation.is_complete
    assert not reports[-1].rotation.lost
    assert {part_of(name) for name in month.site.packs} <= set(range(PARTS))
    for name in month.site.packs:
        assert part_of(name) == part_of(layout.parity_of(name) or "")


def test_what_is_damaged_is_healed_within_the_month(month: Month) -> None:
    """And the report of its day names it."""
    site = month.site
    hit = site.chance.sample(site.packs, 5)
    for name in hit:
        site.damage(name, two_sectors)
    small = next(name for name in site.whole if name.startswith("snapshots/"))
    parity = next(name for name in site.whole if name.startswith("parity/") and name > "parity/8")
    site.flip(small)
    site.flip(parity, -3)
    healed = [name for _ in range(PARTS) for name in month.day().healed]
    assert sorted(healed) == sorted([*hit, small, parity])
    assert objects(site.store) == site.whole


def test_without_repair_nothing_is_changed_and_what_is_lost_stays_remembered(month: Month) -> None:
    """Until a later run finds it whole."""
    site, name = month.site, month.site.large()
    site.damage(name, three_pieces_of_a_group)
    before = objects(site.store)
    reports = [month.day(repair=False) for _ in range(PARTS)]
    assert [found for report in reports for found in report.damaged] == [name]
    assert reports[-1].rotation.lost == 1
    assert objects(site.store) == before
    site.again()
    month.store = site.store
    assert [month.day() for _ in range(PARTS)][-1].rotation.lost == 0


def test_days_that_were_missed_are_made_up_for(month: Month) -> None:
    """Three parts a day until none is overdue."""
    for _ in range(PARTS):
        month.day()
    month.clock.advance(10 * DAY)
    parts = [month.day().parts for _ in range(10)]
    assert len(parts[0]) == 3
    assert len(parts[-1]) == 1
    rotation = load(month.path)
    assert all(
        month.clock.now_ns() - part.read_ns < (PARTS + 3) * DAY * 10**9 for part in rotation.parts
    )


def test_a_killed_run_begins_its_part_anew(month: Month) -> None:
    """What was not finished is not remembered as read."""

    class Killed(Exception):
        """The end of the process."""

    class Dying(RecordingStore):
        def before(self, operation: str, name: str) -> None:
            super().before(operation, name)
            if operation == "get_range":
                raise Killed

    month.store = Dying(month.site.store)
    with pytest.raises(Killed):
        month.day()
    assert load(month.path) == Rotation()
    month.store = month.site.store
    assert month.day().parts == (0,)


def test_a_state_that_cannot_be_read_begins_anew(month: Month) -> None:
    """Reading everything again is no loss."""
    month.path.write_bytes(b"{")
    assert load(month.path) == Rotation()
    month.path.write_bytes(b'{"parts": []}')
    assert load(month.path) == Rotation()
    month.day()
    assert load(month.path).parts[0].read_ns
    assert os.listdir(month.path.parent) == [month.path.name]


def test_since_is_when_the_oldest_part_was_read() -> None:
    """Nothing is claimed before all were."""
    parts = tuple(Part(100 + number) for number in range(PARTS))
    assert Rotation(parts).since_ns == 100
    assert Rotation((Part(), *parts[1:])).since_ns == 0
    assert not Rotation((Part(), *parts[1:])).is_complete
