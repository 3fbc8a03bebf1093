"""Verification finds each thing that can go wrong, by name, and nothing where all is well."""

from pathlib import Path

import msgspec
import pytest

from agent.crypto.secrets import VaultSecrets
from agent.crypto.signing import SigningKey
from agent.errors import NotARepository, RepositoryTooNew, StoreUnavailable
from agent.model.location import PackKind
from agent.repository import layout
from agent.repository.findings import MAX_FINDINGS, Report
from agent.repository.holds import Hold, put_hold
from agent.repository.indexcache import open_index, seal_index
from agent.repository.packtable import read_header
from agent.repository.vaults import enrol_writer
from agent.repository.verify import verify
from agent.store.memory import MemoryStore
from tests.fakes.restores import HandMade
from tests.fakes.vaults import Vault, make_vault, make_writer


class Small:
    """A small repository: one vault, three snapshots, a pack of data and one of trees for each."""

    def __init__(self, scratch: Path, store: MemoryStore | None = None) -> None:
        """Make it; `scratch` holds index copies."""
        self.store = store or MemoryStore()
        self.vault: Vault = make_vault(self.store)
        self.make = HandMade(self.store, self.vault, scratch)
        for number in range(3):
            self.make.commit_entries(self.make.file(b"f%d" % number, b"content %d" % number * 50))

    def verify(self, *, with_keys: bool = True, read_data: bool = True) -> Report:
        """Verify, with or without the gate's keys."""
        keys = {self.vault.secrets.vault: self.vault.secrets.reader()} if with_keys else {}
        return verify(self.store, keys=keys, read_data=read_data, on_progress=lambda *_: None)

    def found(self, **how: bool) -> dict[str, str]:
        """Return name → problem of what verification finds."""
        return {finding.name: finding.problem for finding in self.verify(**how).findings}

    def names(self, prefix: str) -> list[str]:
        """Return the objects below a prefix, in order."""
        return sorted(listed.name for listed in self.store.list(prefix))

    def pack(self, kind: PackKind) -> str:
        """Return the name of a pack of that kind."""
        for name in self.names(layout.PACKS):
            pack = layout.pack_id(name)
            if pack is not None and read_header(self.store, pack)[0].kind is kind:
                return name
        raise AssertionError("no such pack")

    def replace(self, name: str, data: bytes) -> None:
        """Put other bytes in an object's place."""
        self.store.delete(name)
        self.store.put(name, [data])

    def flip(self, name: str, at: int) -> None:
        """Flip a bit of one byte."""
        data = bytearray(self.store.get(name))
        data[at] ^= 1
        self.replace(name, bytes(data))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """Return a small repository."""
    return Small(tmp_path / "made")


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("read_data", [True, False])
def test_a_sound_repository_is_clean(small: Small, with_keys: bool, read_data: bool) -> None:
    """And everything in it was counted."""
    report = small.verify(with_keys=with_keys, read_data=read_data)
    assert report.is_clean, report.findings
    assert (report.packs, report.indexes, report.snapshots) == (6, 3, 3)
    assert (report.slots, report.writers) == (1, 1)
    assert (report.read_bytes > 0) == read_data


def test_an_agents_keys_check_as_much_but_for_who_enrolled(small: Small) -> None:
    """The host that writes can verify what it wrote."""
    keys = {small.vault.writer.vault: small.vault.writer}
    assert verify(small.store, keys=keys, on_progress=lambda *_: None).is_clean
    small.store.delete(small.pack(PackKind.DATA))
    assert not verify(small.store, keys=keys, on_progress=lambda *_: None).is_clean


def test_what_is_no_repository_is_an_error_and_no_finding() -> None:
    """There is nothing to verify."""
    with pytest.raises(NotARepository):
        verify(MemoryStore(), on_progress=lambda *_: None)


def test_progress_ends_at_its_total(small: Small) -> None:
    """Bytes where data are read, objects where not."""
    for read_data, total in (
        (True, sum(listed.size for listed in small.store.list(""))),
        (False, len(small.names(""))),
    ):
        told: list[tuple[int, int]] = []
        verify(small.store, read_data=read_data, on_progress=lambda *at, to=told: to.append(at))
        assert told[-1] == (total, total)


# -- packs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_flipped_byte_in_a_pack_is_found_by_reading(small: Small, with_keys: bool) -> None:
    """Anywhere: the name is the digest."""
    name = small.pack(PackKind.DATA)
    small.flip(name, len(small.store.get(name)) // 2)
    assert list(small.found(with_keys=with_keys)) == [name]


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("left", [0, 10, 1300, -1])
def test_a_truncated_pack_is_found_without_reading_it(
    small: Small, with_keys: bool, left: int
) -> None:
    """By its trailer, keys or not."""
    name = small.pack(PackKind.TREE)
    small.replace(name, small.store.get(name)[:left])
    assert list(small.found(with_keys=with_keys, read_data=False)) == [name]


def test_a_missing_pack_is_found_with_keys_and_named(small: Small) -> None:
    """And the advice says what it means."""
    name = small.pack(PackKind.DATA)
    small.store.delete(name)
    (finding,) = small.verify(read_data=False).findings
    assert (finding.name, "missing" in finding.problem) == (name, True)
    assert "copy" in finding.advice
    assert small.verify(with_keys=False).is_clean, "without keys nobody knows that it was there"


def test_two_packs_that_changed_places_are_found_without_reading(small: Small) -> None:
    """Their tables are not what the index lists."""
    data, tree = small.pack(PackKind.DATA), small.pack(PackKind.TREE)
    first, second = small.store.get(data), small.store.get(tree)
    small.replace(data, second)
    small.replace(tree, first)
    found = small.found(read_data=False)
    assert {data, tree} <= found.keys() or any(name.startswith("index/") for name in found)
    assert found


def test_a_pack_of_another_vault_in_the_place_of_ours_is_found(
    small: Small, tmp_path: Path
) -> None:
    """Whatever its own name would have been."""
    name = small.pack(PackKind.DATA)
    other = Small(tmp_path / "other")
    theirs = other.store.get(other.pack(PackKind.DATA))
    small.replace(name, theirs)
    assert list(small.found(read_data=False)) == [name]


def test_packs_that_no_index_lists_are_counted_and_no_fault(small: Small) -> None:
    """An interrupted run leaves them; the next one takes them up."""
    small.store.delete(small.names("index/")[0])
    report = small.verify()
    assert report.unindexed_packs == 2


# -- indexes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_damaged_index_is_found(small: Small, with_keys: bool) -> None:
    """Without keys by its digest; what it listed is found missing with them."""
    name = small.names("index/")[0]
    small.flip(name, 60)
    found = small.found(with_keys=with_keys)
    assert "damaged" in found.pop(name)
    assert all("root" in problem for problem in found.values())


def test_a_missing_index_is_found_by_the_roots_it_listed(small: Small) -> None:
    """The snapshot whose root nobody finds is named."""
    for name in small.names("index/"):
        small.store.delete(name)
    assert sorted(small.found()) == small.names("snapshots/")


def test_an_index_that_lists_what_a_pack_does_not_hold_is_found(small: Small) -> None:
    """A hostile writer's index is well sealed, and wrong."""
    name = small.names("index/")[0]
    key = small.vault.writer.index()
    lying = bytearray(open_index(small.store.get(name), key, name))
    lying[-16 - 32] ^= 1  # a byte of the last record's id
    id_, box = seal_index(bytes(lying), key)
    small.store.delete(name)
    new = layout.index(small.vault.writer.vault, id_)
    small.store.put(new, [box])
    assert new in small.found(read_data=False)


# -- chains -------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("which", [0, 1])
def test_a_snapshot_missing_from_a_chain_is_named(
    small: Small, with_keys: bool, which: int
) -> None:
    """At its start or in its midst; its end only somebody who remembers can miss."""
    name = small.names("snapshots/")[which]
    small.store.delete(name)
    assert list(small.found(with_keys=with_keys)) == [name]


@pytest.mark.parametrize("with_keys", [True, False])
def test_snapshots_that_changed_places_are_both_found(small: Small, with_keys: bool) -> None:
    """A signature is for one place."""
    first, second, _ = small.names("snapshots/")
    one, other = small.store.get(first), small.store.get(second)
    small.replace(first, other)
    small.replace(second, one)
    assert list(small.found(with_keys=with_keys)) == [first, second]


def test_a_fork_of_a_chain_is_found_with_keys(small: Small, tmp_path: Path) -> None:
    """The same host, the same sequence, another snapshot: its successor does not follow it."""
    name = small.names("snapshots/")[1]
    elsewhere = MemoryStore()
    for listed in small.store.list(""):
        if not listed.name.startswith("snapshots/") or listed.name < name:
            elsewhere.put(listed.name, [small.store.get(listed.name)])
    HandMade(elsewhere, small.vault, tmp_path / "fork").commit(b"")
    small.replace(name, elsewhere.get(name))
    assert list(small.found()) == [small.names("snapshots/")[2]]


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_foreign_writers_snapshot_is_found(small: Small, tmp_path: Path, with_keys: bool) -> None:
    """One that the vault never enrolled; and one that only says that it was."""
    keys = make_writer(small.store, small.vault.secrets, "stranger")
    foreign = Vault(small.vault.secrets, keys)
    HandMade(small.store, foreign, tmp_path / "foreign").commit(b"")
    enrolment = layout.writer(keys.vault, keys.host())
    snapshot = layout.snapshot(keys.vault, keys.host(), 1)
    assert small.verify().is_clean
    small.store.delete(enrolment)
    assert list(small.found(with_keys=with_keys)) == [snapshot]
    # a forger signs with an authority of his own; everything else is as it should be
    authority = VaultSecrets.generate("radiology", "imaging", 4).authority
    forger = msgspec.structs.replace(small.vault.secrets, authority=authority)
    enrol_writer(small.store, forger, "stranger", keys.signer().verify_key().raw)
    assert enrolment in small.found()


# -- every byte ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["vaults/", "index/", "snapshots/", "packs/"])
def test_a_flipped_byte_anywhere_in_any_kind_of_object_is_found(small: Small, prefix: str) -> None:
    """No offset of any object is silent, and the object itself is named."""
    for name in small.names(prefix)[:2]:
        whole = small.store.get(name)
        for at in range(len(whole)):
            small.flip(name, at)
            assert name in small.found(), f"{name} at {at}"
            small.replace(name, whole)


def test_a_flipped_byte_in_the_repository_object_misleads_nobody(small: Small) -> None:
    """What is read of it is refused if it changed; its id and date are for people to look at."""
    whole = small.store.get(layout.REPOSITORY)
    for at in range(whole.index(b'"id"')):
        small.flip(layout.REPOSITORY, at)
        with pytest.raises((NotARepository, RepositoryTooNew)):
            small.verify()
        small.replace(layout.REPOSITORY, whole)


def test_objects_that_are_none_of_ours_are_named(small: Small) -> None:
    """Nothing reads them, but somebody put them there."""
    strays = ["packs/ab/" + "cd" * 32, "notes.txt", f"index/{'ab' * 16}/short", "vaults/x/y"]
    for stray in strays:
        small.store.put(stray, [b"?"])
    found = small.found()
    assert sorted(found) == sorted(strays)
    assert all("no object of ours" in problem for problem in found.values())


def test_a_thousand_findings_are_listed_and_the_rest_counted(small: Small) -> None:
    """A repository that is gone must not fill memory."""
    for number in range(MAX_FINDINGS + 5):
        small.store.put(f"stray/{number}", [b"?"])
    report = small.verify(read_data=False)
    assert (len(report.findings), report.more_findings) == (MAX_FINDINGS, 5)


def test_an_object_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    """A bad sector does not end the scrub."""

    class BadSector(MemoryStore):
        bad = ""

        def get_range(self, name: str, offset: int, length: int) -> bytes:
            if name == self.bad:
                raise StoreUnavailable(f"{name}: Input/output error")
            return super().get_range(name, offset, length)

    store = BadSector()
    small = Small(tmp_path / "made", store)
    store.bad = small.pack(PackKind.DATA)
    assert list(small.found()) == [store.bad]


def test_a_hold_that_is_damaged_or_forged_is_found(small: Small) -> None:
    """It keeps retention from going on: whoever looks must be told of it before."""
    secrets = small.vault.secrets
    hold = Hold(secrets.vault, b"\5" * 16, (), 0, "trial", "it", 1)
    key = secrets.reader().index()
    put_hold(small.store, hold, key, SigningKey(secrets.authority))
    name = layout.hold(secrets.vault, hold.name)
    assert small.found() == {}
    small.flip(name, -1)
    assert list(small.found()) == [name]
    assert small.found(with_keys=False) == {}, "whose signature it is only its reader can tell"
    small.replace(name, b"VITRHOLD cut short")
    assert list(small.found(with_keys=False)) == [name]
    small.store.delete(name)
    put_hold(small.store, hold, key, SigningKey.generate())
    assert list(small.found()) == [name]
