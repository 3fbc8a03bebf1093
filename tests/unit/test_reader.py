"""From an id to verified bytes: what was named, or an error that names the object."""

import os
from pathlib import Path

import msgspec
import pytest

from agent.crypto.packkeys import OpeningKey
from agent.errors import ObjectDamaged, ObjectMissing, RepositoryTooNew
from agent.model.ids import TreeId
from agent.model.location import PackKind
from agent.model.tree import Entry, TreePage, encode_page
from agent.repository import layout
from agent.repository.indexcache import IndexCache
from agent.repository.writer import VaultWriter, put_page
from agent.store.memory import MemoryStore
from tests.fakes.vaults import make_vault, open_reader

PAGE = encode_page(TreePage(entries=(Entry(name=b"a"),)))


class _Vault:
    """A vault that a test writes to as it likes, hostile writers included."""

    def __init__(self, scratch: Path) -> None:
        self.store = MemoryStore()
        self.secrets, self.keys = make_vault(self.store)
        self.scratch = scratch
        self.writer = self.new_writer("w")

    def new_writer(self, name: str) -> VaultWriter:
        cache = IndexCache(self.scratch / name, self.store, self.keys.vault, self.keys.index())
        return VaultWriter(self.store, self.keys, cache)

    def store_as(self, id_: bytes, data: bytes, kind: PackKind = PackKind.DATA) -> str:
        """Store `data` under any id, as an owned agent could; return the pack's name."""
        before = {listed.name for listed in self.store.list(layout.PACKS)}
        builder = self.writer.builder(kind)
        builder.add(id_, data)
        self.writer.put(builder)
        self.writer.flush()
        (name,) = {listed.name for listed in self.store.list(layout.PACKS)} - before
        return name


def test_chunks_and_pages_come_back_by_id(tmp_path: Path) -> None:
    """Large, small, and the page of a tree."""
    vault = _Vault(tmp_path)
    ids = vault.keys.ids()
    large, small = os.urandom(300_000), b"record"
    vault.store_as(ids.chunk_id(large), large)
    vault.store_as(ids.chunk_id(small), small)
    pack = vault.writer.builder(PackKind.TREE)
    page = put_page(vault.writer, pack, PAGE)
    vault.writer.put(pack)
    vault.writer.flush()
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    assert reader.chunk(ids.chunk_id(large)) == large
    assert reader.cached_chunk(ids.chunk_id(small)) is None
    reader.prefetch([ids.chunk_id(small), b"?" * 32])
    ahead = reader.cached_chunk(ids.chunk_id(small))
    assert ahead is not None
    assert bytes(ahead) == small
    assert reader.page(page).entries[0].name == b"a"


def test_what_is_in_memory_is_told_without_waiting(tmp_path: Path) -> None:
    """Chunks that were prefetched, and pages whose neighbour was read; nothing else."""
    vault = _Vault(tmp_path)
    ids = vault.keys.ids()
    chunks = [os.urandom(200_000) for _ in range(3)]
    for chunk in chunks:
        vault.store_as(ids.chunk_id(chunk), chunk)
    other = encode_page(TreePage(entries=(Entry(name=b"b"),)))
    pack = vault.writer.builder(PackKind.TREE)
    pages = [put_page(vault.writer, pack, page) for page in (PAGE, other)]
    vault.writer.put(pack)
    vault.writer.flush()
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    reader.prefetch([ids.chunk_id(chunk) for chunk in chunks[:2]])
    held = [reader.cached_chunk(ids.chunk_id(chunk)) for chunk in chunks]
    assert held == [*chunks[:2], None]
    assert reader.cached_page(pages[1]) is None
    assert reader.page(pages[0]).entries[0].name == b"a"
    found = reader.cached_page(pages[1])
    assert found is not None
    assert found.entries[0].name == b"b"


def test_wrong_bytes_in_memory_are_not_told(tmp_path: Path) -> None:
    """A hostile writer stored others under the name: prefetching goes on, reading says so."""
    vault = _Vault(tmp_path)
    ids = vault.keys.ids()
    name = ids.chunk_id(b"right")
    vault.store_as(name, b"wrong")
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    reader.prefetch([name])
    assert reader.cached_chunk(name) is None
    with pytest.raises(ObjectDamaged):
        reader.chunk(name)


def test_an_id_that_no_index_knows_is_missing(tmp_path: Path) -> None:
    """With a hint, and the id's first characters."""
    vault = _Vault(tmp_path)
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    with pytest.raises(ObjectMissing, match="ab" * 6):
        reader.chunk(b"\xab" * 32)
    for odd in (b"", b"short", b"\xff" * 40):
        with pytest.raises(ObjectMissing):
            reader.page(TreeId(odd))


def test_a_chunk_with_the_bytes_of_a_page_is_never_served_as_a_page(tmp_path: Path) -> None:
    """A hostile file holds a page's bytes; its name and its pack's kind keep it data."""
    vault = _Vault(tmp_path)
    ids = vault.keys.ids()
    vault.store_as(ids.chunk_id(PAGE), PAGE)
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    assert reader.chunk(ids.chunk_id(PAGE)) == PAGE  # it is a fine file
    with pytest.raises(ObjectDamaged):
        reader.page(TreeId(ids.chunk_id(PAGE)))
    with pytest.raises(ObjectMissing):
        reader.page(ids.tree_id(PAGE))


def test_even_a_lying_index_does_not_turn_data_into_a_page(tmp_path: Path) -> None:
    """The page's own name, but a data pack: refused by the kind bound into the seal."""
    vault = _Vault(tmp_path)
    id_ = vault.keys.ids().tree_id(PAGE)
    vault.store_as(id_, PAGE)
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    with pytest.raises(ObjectDamaged, match="something else"):
        reader.page(id_)
    with pytest.raises(ObjectDamaged, match="not what was named"):
        reader.chunk(id_)
    with pytest.raises(ObjectDamaged):
        reader.page(id_)


def test_other_bytes_under_a_name_are_refused(tmp_path: Path) -> None:
    """An owned agent cannot make one image pass for another."""
    vault = _Vault(tmp_path)
    id_ = vault.keys.ids().chunk_id(b"the real image")
    vault.store_as(id_, b"another image!")
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    for _ in range(2):
        with pytest.raises(ObjectDamaged, match="not what was named"):
            reader.chunk(id_)


@pytest.mark.parametrize("damage", ["forged first", "forged last", "pack gone"])
def test_where_one_of_two_places_is_bad_the_other_serves(tmp_path: Path, damage: str) -> None:
    """What lies twice is found if it is whole once."""
    vault = _Vault(tmp_path)
    data = b"the real image"
    id_ = vault.keys.ids().chunk_id(data)
    first = vault.store_as(id_, b"a forged image" if damage == "forged first" else data)
    vault.store_as(id_, b"a forged image" if damage == "forged last" else data)
    if damage == "pack gone":
        vault.store.delete(first)
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    assert reader.chunk(id_) == data
    assert reader.chunk(id_) == data


def test_a_missing_pack_is_told_by_name(tmp_path: Path) -> None:
    """So that somebody can bring it back."""
    vault = _Vault(tmp_path)
    id_ = vault.keys.ids().chunk_id(b"x")
    name = vault.store_as(id_, b"x")
    vault.store.delete(name)
    reader = open_reader(vault.store, vault.secrets, tmp_path / "r")
    with pytest.raises(ObjectMissing, match=name):
        reader.chunk(id_)


def test_rotation_leaves_old_packs_readable(tmp_path: Path) -> None:
    """A pack names its epoch; keyslots keep the seeds of all."""
    vault = _Vault(tmp_path)
    ids = vault.keys.ids()
    vault.store_as(ids.chunk_id(b"old"), b"old")
    epochs = {**vault.secrets.epochs, 2: OpeningKey.generate().seed}
    rotated = msgspec.structs.replace(vault.secrets, epochs=epochs)
    vault.keys = rotated.writer(vault.keys.signing)
    vault.writer = vault.new_writer("w")
    vault.store_as(ids.chunk_id(b"new"), b"new")
    reader = open_reader(vault.store, rotated, tmp_path / "r")
    assert bytes(reader.chunk(ids.chunk_id(b"old"))) == b"old"
    assert bytes(reader.chunk(ids.chunk_id(b"new"))) == b"new"
    stale = open_reader(vault.store, vault.secrets, tmp_path / "s")
    with pytest.raises(RepositoryTooNew, match="epoch 2"):
        stale.chunk(ids.chunk_id(b"new"))
