"""Copy and the daily verification broken at each store operation, on either side, and run again."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from agent.errors import NotARepository, StoreError
from agent.maintenance.copy import Copying
from agent.maintenance.heal import Healer
from agent.maintenance.rotation import RotatingVerify, part_of
from agent.maintenance.rotationstate import PARTS, Part, Rotation, save
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.contents import objects, store_of
from tests.fakes.damage import two_sectors
from tests.fakes.faulty_store import OPERATIONS, Fault, FaultyStore
from tests.unit.test_repair import Site

WAYS = {
    "failed": (Fault.BEFORE, False),
    "answer lost": (Fault.AFTER, False),
    "crashed before": (Fault.BEFORE, True),
    "crashed after": (Fault.AFTER, True),
    "full": (Fault.FULL, False),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a repository of a few packs with parity."""
    return Site(tmp_path_factory.mktemp("small"), commits=3, sizes=(900, 3000))


def _copy(source: Store, target: Store) -> None:
    Copying(source, target, Genuine(source)).run(lambda *_: None)


def _broken(
    run: Callable[[Store], None], begin: Callable[[], MemoryStore], fault: Fault, *, crash: bool
) -> Iterator[MemoryStore]:
    """Yield the store after the n-th operation on it failed, for every n.

    Of the listings, of which there are two thousand for every few packs, one in two hundred.
    """
    yield from _each(run, begin, fault, 1, OPERATIONS - {"list"}, crash=crash)
    if fault is not Fault.FULL:
        yield from _each(run, begin, fault, 200, {"list"}, crash=crash)


def _each(
    run: Callable[[Store], None], begin: Callable[[], MemoryStore], fault: Fault, step: int,
    counted: Collection[str], *, crash: bool,
) -> Iterator[MemoryStore]:  # fmt: skip
    failed = 0
    while True:
        inner = begin()
        store = FaultyStore(
            inner, fail_at=failed + 1, fault=fault, stays_down=crash, counted=counted
        )
        with contextlib.suppress(StoreError):  # nothing else may leave
            run(store)
        if store.operations <= failed:
            break
        yield inner
        failed += step
    assert failed > 10, "too few operations to prove anything"


def _is_consistent(site: Site, target: MemoryStore) -> None:
    """Check that what is in a copy is right, and that all is there that its snapshots name."""
    held = objects(target)
    assert held.items() <= site.whole.items()
    if held:
        report = verify(target, keys=site.keys, read_data=True, on_progress=lambda *_: None)
        assert report.is_clean, report.findings


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whatever_operation_on_the_copy_fails_it_is_consistent_and_the_next_run_ends_it(
    site: Site, way: tuple[Fault, bool]
) -> None:
    """Every snapshot that it has is whole, at any moment; nothing in it is ever wrong."""
    fault, crash = way
    source = store_of(site.whole)
    for target in _broken(lambda to: _copy(source, to), MemoryStore, fault, crash=crash):
        _is_consistent(site, target)
        _copy(source, target)
        assert objects(target) == site.whole


@pytest.mark.slow
@pytest.mark.parametrize("crash", [False, True])
def test_whatever_operation_on_the_source_fails_the_copy_is_consistent(
    site: Site, crash: bool
) -> None:
    """An object that cannot be read once is left out, and comes with the next run."""
    targets: list[MemoryStore] = []

    def run(source: Store) -> None:
        targets.append(MemoryStore())
        _copy(source, targets[-1])

    whole = store_of(site.whole)
    for source in _broken(run, lambda: store_of(site.whole), Fault.BEFORE, crash=crash):
        held = objects(targets[-1])
        assert held.items() <= site.whole.items()
        assert objects(source) == site.whole
        _copy(whole, targets[-1])
        assert objects(targets[-1]) == site.whole


def test_a_torn_object_in_the_copy_is_found_and_replaced(site: Site) -> None:
    """By its length, which the source knows."""
    source = store_of(site.whole)
    for target in _broken(lambda to: _copy(source, to), MemoryStore, Fault.TORN, crash=True):
        if objects(target).get("repository") not in {None, site.whole["repository"]}:
            continue  # what nobody takes for a repository is nobody's to write to
        _copy(source, target)
        assert objects(target) == site.whole


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whatever_operation_of_a_daily_verification_fails_the_next_heals(
    site: Site, way: tuple[Fault, bool], tmp_path: Path
) -> None:
    """Nothing that was sound is touched; what was being healed is there by one name or another."""
    fault, crash = way
    pack = site.packs[0]
    parity = layout.parity_of(pack)
    assert parity is not None
    damaged = dict(site.whole)
    damaged[pack] = two_sectors(damaged[pack], site.chance)
    clock, state = FakeClock(), tmp_path / "rotation.json"
    read = Part(clock.now_ns())
    due = Rotation((read,) * PARTS).noted(part_of(pack), Part())

    def day(store: Store) -> None:
        save(state, due)
        healer = Healer(store, Genuine(store, site.keys))
        RotatingVerify(store, healer, clock, state).run(lambda *_: None, repair=True)

    for store in _broken(day, lambda: store_of(damaged), fault, crash=crash):
        held = objects(store)
        assert pack in held or held[layout.REPAIR + pack] == site.whole[pack]
        day(store)
        assert objects(store) == site.whole


def test_a_copy_into_a_half_written_repository_object_is_refused(site: Site) -> None:
    """It could be anybody's."""
    target = MemoryStore()
    target.put("repository", [b'{"format": "vitr'])
    with pytest.raises(NotARepository, match="not Vitrine's"):
        _copy(store_of(site.whole), target)
    assert len(objects(target)) == 1
