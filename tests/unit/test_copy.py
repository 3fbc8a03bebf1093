"""A copy holds what its source held: incremental, checked, and consistent at any moment."""

from itertools import pairwise
from pathlib import Path

import pytest

from agent.errors import NotARepository, ObjectExists
from agent.maintenance.copy import Copying, CopyReport
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.repository.vaults import create_repository
from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.contents import objects
from tests.fakes.damage import three_pieces_of_a_group, two_sectors
from tests.fakes.removing import remove
from tests.fakes.restores import HandMade
from tests.fakes.stores import RecordingStore
from tests.fakes.vaults import Vault, make_writer, snapshots
from tests.unit.test_repair import Site

SMALL = 12  # commits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return one site for the module."""
    return Site(tmp_path_factory.mktemp("copied"), commits=SMALL)


@pytest.fixture
def site(made: Site) -> Site:
    """Return the site, undamaged."""
    made.again()
    return made


def copy(source: Store, target: Store, *, revoke: bool = False) -> CopyReport:
    """Copy."""
    return Copying(source, target, Genuine(source)).run(lambda *_: None, revoke=revoke)


def test_a_copy_is_the_same_and_the_next_run_copies_nothing(site: Site) -> None:
    """Object by object, without a key."""
    target = MemoryStore()
    report = copy(site.store, target)
    assert objects(target) == site.whole
    assert report.objects == len(site.whole) - 1  # the repository object begins it
    assert copy(site.store, target).objects == 0


def test_only_what_is_new_is_read(site: Site, tmp_path: Path) -> None:
    """By name: nothing that is there is fetched again."""
    target = MemoryStore()
    copy(site.store, target)
    writer = make_writer(site.store, site.secrets, "second")
    more = HandMade(site.store, Vault(site.secrets, writer), tmp_path)
    more.commit_entries(more.file(b"new", b"new" * 100))
    source = RecordingStore(site.store)
    report = copy(source, target)
    assert objects(target) == objects(site.store)
    assert report.objects == 5  # two packs, an index, the enrolment, the snapshot
    read = {name for operation, name in source.calls if operation == "get_range"}
    assert len(read) == 6  # those, and `repository`


def test_snapshots_come_last_and_packs_first(site: Site) -> None:
    """What names comes after what is named."""
    target = RecordingStore(MemoryStore())
    copy(site.store, target)
    rooms = [name.split("/")[0] for name in target.puts()]
    order = [room for number, room in enumerate(rooms) if room not in rooms[:number]]
    assert order == ["repository", "packs", "parity", "index", "vaults", "snapshots"]
    firsts = {room: rooms.index(room) for room in order}
    lasts = {room: len(rooms) - rooms[::-1].index(room) for room in order}
    assert all(lasts[a] <= firsts[b] for a, b in pairwise(order))


def test_a_snapshot_taken_meanwhile_is_copied_whole_or_not_at_all(
    site: Site, tmp_path: Path
) -> None:
    """Whenever it is taken: what is copied first was listed last."""
    at = 0
    while True:
        site.again()
        more = HandMade(site.store, Vault(site.secrets, make_writer(site.store, site.secrets, "b")),
                        tmp_path / str(at))  # fmt: skip

        class Busy(RecordingStore):
            def before(self, operation: str, name: str) -> None:
                super().before(operation, name)
                if len(self.calls) == at + 1:  # noqa: B023 - used up within this round
                    more.commit_entries(more.file(b"new", b"new" * 100))  # noqa: B023

        source, target = Busy(site.store), MemoryStore()
        copy(source, target)
        keys = {site.secrets.vault: site.secrets.reader()}
        report = verify(target, keys=keys, read_data=True, on_progress=lambda *_: None)
        assert report.is_clean, (at, report.findings)
        if len(source.calls) <= at:
            break
        at += 149
    assert at > 149


def test_damaged_objects_are_healed_on_the_way_or_left_out(site: Site) -> None:
    """Never copied; the others go on, and once healed in the source they are copied."""
    lost, small = site.large(), min(site.packs, key=lambda name: len(site.whole[name]))
    site.damage(lost, three_pieces_of_a_group)
    site.damage(small, two_sectors)
    target = MemoryStore()
    report = copy(site.store, target)
    assert (report.healed, report.damaged) == ((small,), (lost,))
    assert {**objects(target), lost: site.whole[lost]} == site.whole
    site.again()
    assert copy(site.store, target).objects == 1
    assert objects(target) == site.whole


def test_an_object_that_is_cut_short_in_the_copy_is_replaced(site: Site) -> None:
    """A copy may have been interrupted by a store that keeps no promise."""
    target = MemoryStore()
    copy(site.store, target)
    target.delete(site.large())
    target.put(site.large(), [b"half"])
    assert copy(site.store, target).objects == 1
    assert objects(target) == site.whole


def test_another_repository_is_refused(site: Site) -> None:
    """And so is a directory with something else in it."""
    target = MemoryStore()
    create_repository(target, 0)
    before = objects(target)
    with pytest.raises(ObjectExists, match="another repository"):
        copy(site.store, target)
    assert objects(target) == before
    strange = MemoryStore()
    strange.put("photographs", [b"?"])
    with pytest.raises(NotARepository):
        copy(site.store, strange)


def test_nothing_is_deleted_in_a_copy_and_what_was_removed_does_not_exist(site: Site) -> None:
    """The removal record is copied: the thinned chain verifies there as well."""
    target = MemoryStore()
    copy(site.store, target)
    remove(site.store, site.secrets, snapshots(site.store, site.secrets)[:3])
    copy(site.store, target)
    assert site.whole.keys() <= objects(target).keys()
    assert snapshots(target, site.secrets) == snapshots(site.store, site.secrets)


def test_a_revoked_keyslot_stays_in_the_copy_until_that_is_asked_for(site: Site) -> None:
    """Whoever owns the source must not be able to take the copy's keys away."""
    target = MemoryStore()
    copy(site.store, target)
    slot = next(name for name in site.whole if "/slots/" in name)
    site.store.delete(slot)
    report = copy(site.store, target)
    assert (report.extra_slots, report.revoked) == (1, 0)
    assert slot in objects(target)
    assert copy(site.store, target, revoke=True).revoked == 1
    assert slot not in objects(target)


def test_what_is_none_of_ours_is_not_copied(site: Site) -> None:
    """Nor what repairs have put aside."""
    for name in ("notes", "damaged/ab/" + "ab" * 32, "repair/x", "packs/ab/short"):
        site.store.put(name, [b"?"])
    target = MemoryStore()
    copy(site.store, target)
    assert objects(target) == site.whole
    assert layout.QUARANTINE == "damaged/"
