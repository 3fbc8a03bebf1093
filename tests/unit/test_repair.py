"""What is damaged within the promise comes back whole; beyond it, it is named and never made up."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.crypto.signing import SigningKey
from agent.errors import NotARepository, StoreUnavailable
from agent.maintenance.parity import ParityReport, drop_removed, make_missing
from agent.maintenance.repair import Repair, RepairReport
from agent.model.ids import PackId
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.repository.holds import Hold, put_hold
from agent.repository.indexcache import IndexCache
from agent.repository.removals import read_removals
from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import objects, store_of
from tests.fakes.damage import (
    HEALS,
    SIZES,
    Damage,
    ManyPacks,
    one_bit,
    put_instead,
    three_pieces_of_a_group,
    two_pieces_a_group,
)
from tests.fakes.removing import remove
from tests.fakes.vaults import snapshots

COMMITS = 60  # two packs each
UNBOUNDED = 1 << 60
KiB = 1024


class Site:
    """A repository with parity, and another just as it was."""

    def __init__(self, scratch: Path, commits: int = COMMITS, sizes: Sequence[int] = SIZES) -> None:
        """Make it, and remember what it holds."""
        self.scratch = scratch
        self.chance = chance("repair")
        made = ManyPacks(scratch / "made", commits, self.chance, sizes)
        self.secrets, self.store = made.vault.secrets, made.store
        self.keys = {self.secrets.vault: self.secrets.reader()}
        self.make_parity()
        self.whole = objects(self.store)
        self.packs = made.packs()

    def again(self) -> MemoryStore:
        """Begin anew with an undamaged repository."""
        self.store = store_of(self.whole)
        return self.store

    def copy(self) -> MemoryStore:
        """Return another repository with the same objects."""
        return store_of(self.whole)

    def make_parity(self, budget: int = UNBOUNDED) -> ParityReport:
        """Make what is missing."""
        return make_missing(
            self.store, Genuine(self.store), budget_bytes=budget, on_progress=lambda *_: None
        )

    def caches(self) -> Callable[..., IndexCache]:
        """Return index copies in the scratch directory."""
        directory = self.scratch / "index"
        key = self.secrets.reader().index()
        return lambda keys: IndexCache(directory, self.store, keys.vault, key)

    def repair(
        self, *, with_keys: bool = True, drop: bool = False, copy: Store | None = None
    ) -> RepairReport:
        """Repair."""
        keys = self.keys if with_keys else {}
        return Repair(self.store, keys, self.caches(), copy).run(lambda *_: None, drop=drop)

    def damage(self, name: str, how: Damage) -> None:
        """Damage an object."""
        put_instead(self.store, name, how(self.store.get(name), self.chance))

    def flip(self, name: str, at: int = 70) -> None:
        """Flip a bit of an object."""
        data = bytearray(self.store.get(name))
        data[at] ^= 1
        put_instead(self.store, name, bytes(data))

    def large(self) -> str:
        """Return a pack of three pieces or more."""
        return max(self.packs, key=lambda name: len(self.whole[name]))

    def is_clean(self) -> bool:
        """Tell whether verification finds nothing, with keys, reading everything."""
        report = verify(self.store, keys=self.keys, read_data=True, on_progress=lambda *_: None)
        return report.is_clean


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return one site for the module."""
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(made: Site) -> Site:
    """Return the site, undamaged."""
    made.again()
    return made


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("how", HEALS)
def test_one_per_cent_of_the_packs_damaged_at_random_come_back_whole(
    site: Site, how: Damage, with_keys: bool
) -> None:
    """From parity alone, byte for byte, whatever happened to them; nothing else is touched."""
    for _ in range(rounds(2)):
        site.again()
        hit = site.chance.sample(site.packs, max(1, round(len(site.packs) / 100)))
        for name in hit:
            site.damage(name, how)
        damaged = [name for name in hit if site.store.get(name) != site.whole[name]]
        report = site.repair(with_keys=with_keys)
        assert (sorted(report.from_parity), report.lost) == (sorted(damaged), ())
        assert objects(site.store) == site.whole


def test_a_thousand_packs_of_which_ten_are_damaged_come_back_whole(tmp_path: Path) -> None:
    """Each damaged in another way, and as much of the parity, of other packs."""
    site = Site(tmp_path, commits=500, sizes=(500, 30 * KiB, 200 * KiB))
    assert len(site.packs) == 1000
    hit = site.chance.sample(site.packs, 20)
    for name in hit[:10]:
        site.damage(name, site.chance.choice(HEALS))
    for name in hit[10:]:
        site.damage(layout.parity_of(name) or "", one_bit)
    assert site.repair(with_keys=False).lost == ()
    assert objects(site.store) == site.whole


def test_every_pack_damaged_at_once_comes_back_whole(site: Site) -> None:
    """One per cent is no limit."""
    for name in site.packs:
        site.damage(name, site.chance.choice(HEALS))
    assert site.repair().lost == ()
    assert objects(site.store) == site.whole
    assert site.is_clean()


def test_beyond_the_promise_a_pack_is_named_as_lost_and_left_as_it_is(site: Site) -> None:
    """What can be healed beside it is healed."""
    name = site.large()
    site.damage(name, three_pieces_of_a_group)
    left = site.store.get(name)
    other = next(pack for pack in site.packs if pack != name)
    site.damage(other, two_pieces_a_group)
    report = site.repair()
    assert (report.lost, report.from_parity) == ((name,), (other,))
    assert site.store.get(name) == left


def test_a_small_pack_that_is_gone_comes_back_from_its_parity(site: Site) -> None:
    """Up to 128 KiB: its parity is as large as it is.  Only keys tell that it should be there."""
    name = min(site.packs, key=lambda name: len(site.whole[name]))
    site.store.delete(name)
    assert site.repair(with_keys=False).damaged == 0
    assert site.repair().from_parity == (name,)
    assert objects(site.store) == site.whole


def test_a_copy_heals_what_parity_cannot(site: Site) -> None:
    """Packs that are damaged too much, or gone."""
    name, gone = site.large(), sorted(site.packs, key=lambda name: len(site.whole[name]))[-2]
    site.damage(name, three_pieces_of_a_group)
    site.store.delete(gone)
    report = site.repair(copy=site.copy())
    assert (sorted(report.from_copy), report.lost) == (sorted((name, gone)), ())
    assert objects(site.store) == site.whole


def test_a_copy_that_is_damaged_too_is_not_believed(site: Site) -> None:
    """Nothing is put that is not what its name says."""
    name, copy = site.large(), site.copy()
    site.damage(name, three_pieces_of_a_group)
    put_instead(copy, name, three_pieces_of_a_group(copy.get(name), site.chance))
    assert site.repair(copy=copy).lost == (name,)


@pytest.mark.parametrize("kind", ["snapshots/", "writers/", "repository"])
def test_small_objects_come_back_from_parity_or_a_copy(site: Site, kind: str) -> None:
    """A lost sector would take them whole."""
    name = next(name for name in site.whole if kind in name and "parity" not in name)
    site.flip(name, 12)
    assert site.repair().from_parity == (name,)
    assert objects(site.store) == site.whole
    site.flip(name, 12)
    site.store.delete(layout.PARITY + name)
    assert site.repair(copy=site.copy()).from_copy == (name,)
    assert site.store.get(name) == site.whole[name]


def test_a_snapshot_that_is_missing_from_its_chain_comes_back(site: Site) -> None:
    """With keys, which tell that no removal explains the gap."""
    name = sorted(name for name in site.whole if name.startswith("snapshots/"))[3]
    site.store.delete(name)
    assert site.repair().from_parity == (name,)
    assert objects(site.store) == site.whole


def test_a_damaged_keyslot_comes_back_from_a_copy_only(site: Site) -> None:
    """It has no parity: one that was destroyed has to be gone."""
    name = next(name for name in site.whole if "/slots/" in name)
    assert layout.parity_of(name) is None
    site.flip(name)
    assert site.repair().lost == (name,)
    assert site.repair(copy=site.copy()).from_copy == (name,)


def test_damaged_parity_is_made_again_from_a_sound_pack(site: Site) -> None:
    """And is then what it was."""
    name = layout.parity_of(site.large())
    assert name is not None
    site.flip(name, 100)
    assert site.repair(with_keys=False).made_again == (name,)
    assert objects(site.store) == site.whole


def test_a_pack_and_its_parity_damaged_within_the_promise_both_come_back(site: Site) -> None:
    """First the pack, then the parity."""
    pack = site.large()
    parity = layout.parity_of(pack)
    assert parity is not None
    site.damage(pack, HEALS[1])
    site.flip(parity, -1)
    report = site.repair()
    assert (report.from_parity, report.made_again) == ((pack,), (parity,))
    assert objects(site.store) == site.whole


@pytest.mark.parametrize("lost", ["damaged", "gone", "all gone"])
def test_indexes_are_made_again_from_the_packs(site: Site, lost: str) -> None:
    """With keys; every snapshot's root is listed again, and no damaged index is left."""
    names = [name for name in site.whole if name.startswith("index/")]
    names.sort(key=lambda name: -len(site.whole[name]))  # what superseded others comes first
    for name in {"damaged": names[:2], "gone": names[:-2], "all gone": names}[lost]:
        if lost == "damaged":
            site.flip(name)
        else:
            site.store.delete(name)
    report = site.repair()
    assert report.lost == ()
    assert report.indexed_packs > 0
    assert site.is_clean()
    assert site.repair().damaged == 0


def test_dropped_packs_are_put_aside_and_forgotten(site: Site) -> None:
    """Nothing is destroyed: the damaged bytes stay by another name, and no index lists the pack."""
    name = site.large()
    site.damage(name, three_pieces_of_a_group)
    left = site.store.get(name)
    report = site.repair(drop=True)
    assert (report.put_aside, report.lost) == ((name,), ())
    pack = PackId(bytes.fromhex(name.rsplit("/", 1)[1]))
    assert site.store.get(layout.quarantined(pack)) == left
    listed = [
        row.id for file in site.caches()(site.secrets.reader()).refresh().files
        for row in file.packs()
    ]  # fmt: skip
    assert pack not in listed
    after = verify(site.store, keys=site.keys, read_data=True, on_progress=lambda *_: None)
    assert after.quarantined == 1
    assert all("root" in finding.problem for finding in after.findings)


def test_without_keys_nothing_is_dropped(site: Site) -> None:
    """No index could be made to forget it."""
    name = site.large()
    site.damage(name, three_pieces_of_a_group)
    assert site.repair(with_keys=False, drop=True).lost == (name,)
    assert site.store.size(name)


def test_a_bad_sector_is_healed_as_other_damage_is(tmp_path: Path) -> None:
    """A read that fails says as much as a hash that differs."""

    class BadSector(MemoryStore):
        bad = ""

        def get_range(self, name: str, offset: int, length: int) -> bytes:
            if name == self.bad and offset <= 5000 < offset + length:
                raise StoreUnavailable(f"{name}: Input/output error")
            return super().get_range(name, offset, length)

        def delete(self, name: str) -> None:
            super().delete(name)
            self.bad = "" if name == self.bad else self.bad  # the file gets other sectors

    site = Site(tmp_path, commits=3)
    store = BadSector()
    for name, data in site.whole.items():
        store.put(name, [data])
    store.bad, site.store = site.large(), store
    assert site.repair().from_parity == (site.large(),)
    assert objects(store) == site.whole


def test_what_is_no_repository_is_refused() -> None:
    """There is nothing to repair."""
    with pytest.raises(NotARepository):
        Repair(MemoryStore(), {}, lambda keys: pytest.fail(str(keys))).run(lambda *_: None)


def test_objects_that_are_none_of_ours_are_left_alone(site: Site) -> None:
    """They are counted; whose they are people have to find out."""
    site.store.put("notes.txt", [b"?"])
    assert site.repair().lost == ()
    assert site.store.get("notes.txt") == b"?"


def test_what_an_interrupted_repair_has_left_is_believed_only_if_it_is_proven(site: Site) -> None:
    """Half of a put, or a stranger's object, goes: it never takes the place of what is there."""
    name = site.large()
    parity = layout.parity_of(name)
    assert parity is not None
    site.store.delete(parity)
    site.store.put(layout.REPAIR + name, [site.whole[name][:1000]])
    site.store.put(layout.REPAIR + "nothing/of/ours", [b"?"])
    report = site.repair(with_keys=False)
    assert (report.finished, report.lost) == (0, ())
    site.make_parity()
    assert objects(site.store) == site.whole


def test_what_an_interrupted_repair_has_healed_gets_its_place(site: Site) -> None:
    """Though the damaged object is gone already."""
    name = site.large()
    site.store.delete(name)
    site.store.put(layout.REPAIR + name, [site.whole[name]])
    report = site.repair(with_keys=False)
    assert (report.finished, report.lost) == (1, ())
    assert objects(site.store) == site.whole


def test_healed_bytes_that_cannot_be_read_now_are_not_thrown_away(site: Site) -> None:
    """They may be all that is left of an object: another run may read them."""

    class Unreadable(MemoryStore):
        bad = True

        def get_range(self, name: str, offset: int, length: int) -> bytes:
            if self.bad and name.startswith(layout.REPAIR):
                raise StoreUnavailable(f"{name}: Input/output error")
            return super().get_range(name, offset, length)

    name, store = min(site.packs), Unreadable()
    for other, data in site.whole.items():
        store.put(layout.REPAIR + other if other == name else other, [data])
    store.delete(layout.parity_of(name) or "")
    site.store = store
    assert site.repair(with_keys=False).finished == 0
    store.bad = False
    assert site.repair(with_keys=False).finished == 1
    assert store.get(name) == site.whole[name]


# -- making parity ------------------------------------------------------------------------------


def test_parity_is_never_made_of_damage(site: Site) -> None:
    """A pack that is not what its name says gets none, and is named."""
    name = site.large()
    parity = layout.parity_of(name)
    assert parity is not None
    site.flip(name)
    site.store.delete(parity)
    report = site.make_parity()
    assert (report.made, report.damaged) == (0, (name,))
    assert parity not in objects(site.store)


def test_a_budget_is_kept_and_the_next_run_goes_on(site: Site) -> None:
    """In steps, until nothing is left."""
    for name in site.whole:
        if name.startswith(layout.PARITY):
            site.store.delete(name)
    steps = 0
    while (report := site.make_parity(budget=4 << 20)).left:
        assert report.read_bytes < (4 << 20) + 16 * (3 << 20)
        steps += 1
    assert steps > 2
    assert objects(site.store) == site.whole
    assert site.make_parity().made == 0


def test_parity_of_removed_snapshots_goes(site: Site) -> None:
    """Else it would keep what retention took away."""
    chain = snapshots(site.store, site.secrets)
    remove(site.store, site.secrets, chain[:3])
    removed = read_removals(site.store, site.secrets.reader())
    assert drop_removed(site.store, site.secrets.vault, removed) == 3
    assert site.repair().damaged == 0


def test_a_hold_that_a_stranger_put_in_a_holds_place_is_not_taken_for_one(site: Site) -> None:
    """With keys its signature is looked at, and for its place: a release is no hold."""
    secrets, name = site.secrets, b"\5" * 16
    keys = secrets.reader()
    hold = Hold(secrets.vault, name, (), 0, "trial", "it", 1)
    put_hold(site.store, hold, keys.index(), SigningKey(secrets.authority))
    other = MemoryStore()
    put_hold(other, hold, keys.index(), SigningKey.generate())
    place = layout.hold(secrets.vault, name)
    genuine = Genuine(site.store, site.keys)
    assert genuine.passes(place, site.store.get(place))
    assert not genuine.passes(layout.release(secrets.vault, name), site.store.get(place))
    assert not genuine.passes(place, other.get(place))
    assert Genuine(site.store).passes(place, other.get(place)), "without keys none can tell"
