"""Pages: canonical, local under change, ending for every input; extents that fold and unfold."""

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agent.crypto.naming import IdKey
from agent.errors import ObjectDamaged
from agent.model.ids import TreeId
from agent.model.location import PackKind
from agent.model.tree import (
    HOLE,
    INLINE_EXTENTS,
    PAGE_MAX_BYTES,
    PAGE_MAX_ENTRIES,
    Entry,
    PageRef,
    TreePage,
    decode_page,
    encode_page,
    pack_extents,
    unpack_extents,
)
from agent.repository.indexcache import IndexCache
from agent.repository.reader import VaultReader
from agent.repository.trees import cut_entries, ends_page, fold_extents, root_of
from agent.repository.writer import VaultWriter, put_page
from agent.store.memory import MemoryStore
from tests.fakes.vaults import make_vault, open_reader

IDS = IdKey(b"k" * 32)
NAMES = [b"%06x.dcm" % n for n in range(6000)]
NO_NAMES = {b".", b".."}


class _Pages:
    """Keeps pages by id."""

    def __init__(self) -> None:
        self.by_id: dict[bytes, bytes] = {}

    def put(self, page: bytes) -> TreeId:
        id_ = IDS.tree_id(page)
        self.by_id[id_] = page
        return id_

    def root(self, names: list[bytes]) -> bytes:
        leaves = [
            PageRef(leaf[0].name, self.put(encode_page(TreePage(entries=tuple(leaf)))))
            for leaf in cut_entries(Entry(name=name) for name in names)
        ]
        return root_of(leaves, self.put)

    def names(self, root: bytes) -> Iterator[bytes]:
        if root:
            page = decode_page(self.by_id[root])
            yield from (entry.name for entry in page.entries)
            for ref in page.pages:
                yield from self.names(ref.id)


names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in NO_NAMES
)


@given(st.sets(names, max_size=60))
def test_any_directory_comes_back_in_order(found: set[bytes]) -> None:
    """Whatever the names."""
    pages = _Pages()
    assert list(pages.names(pages.root(sorted(found)))) == sorted(found)


@pytest.mark.parametrize("count", [0, 1, 255, 1024, 1025, 6000])
def test_any_number_of_names_comes_back(count: int) -> None:
    """From none to several levels of pages; an empty directory has no root."""
    pages = _Pages()
    root = pages.root(NAMES[:count])
    assert bool(root) == bool(count)
    assert list(pages.names(root)) == NAMES[:count]


@settings(max_examples=15)
@given(st.integers(0, len(NAMES)), st.binary(min_size=1, max_size=8))
def test_one_more_name_changes_the_page_it_falls_into_and_its_neighbour(
    count: int, new: bytes
) -> None:
    """Up to the next page that ends by name: two leaves unless a page was full."""
    assume(b"/" not in new and b"\0" not in new and new not in NO_NAMES and new not in NAMES)
    pages = _Pages()
    pages.root(NAMES[:count])
    before = set(pages.by_id)
    leaves = [list(leaf) for leaf in cut_entries(Entry(name=n) for n in NAMES[:count])]
    full = sum(not ends_page(leaf[-1].name) for leaf in leaves[:-1])
    pages.root(sorted([*NAMES[:count], new]))
    changed = [decode_page(pages.by_id[id_]) for id_ in set(pages.by_id) - before]
    assert sum(bool(page.entries) for page in changed) <= 2 + full
    assert len(changed) <= 2 * (2 + full) + 2


def test_the_pages_of_a_directory_depend_on_its_names_alone() -> None:
    """Adding and removing leads back to the same root."""
    pages = _Pages()
    root = pages.root(NAMES)
    assert pages.root([*NAMES[:100], *NAMES[101:]]) != root
    assert pages.root(NAMES) == root


def _hostile(bits: int, count: int) -> list[bytes]:
    """Return names whose CRC-32 ends in `bits` zeros: each would end its page."""
    found = (b"%07d" % n for n in range(3_000_000))
    wanted = (1 << bits) - 1
    names_ = [name for name in found if zlib.crc32(name) & wanted == 0]
    return names_[:count]


def test_names_made_to_end_every_page_still_make_a_tree_that_ends() -> None:
    """CRC-32 is no secret: an adversary gets small pages, not an endless or deep tree."""
    adversarial = _hostile(16, 30)
    assert len(adversarial) == 30
    pages = _Pages()
    root = pages.root(adversarial)
    assert list(pages.names(root)) == adversarial
    levels, page = 0, decode_page(pages.by_id[root])
    while page.pages:
        levels, page = levels + 1, decode_page(pages.by_id[page.pages[0].id])
    assert levels <= 5


def test_names_that_end_no_page_are_cut_at_the_most() -> None:
    """Neither number nor weight of a leaf is in an adversary's hands."""
    endless = [name for name in NAMES if not ends_page(name)]
    assert {len(leaf) for leaf in list(cut_entries(Entry(name=n) for n in endless))[:-1]} == {
        PAGE_MAX_ENTRIES
    }
    heavy = [Entry(name=n, xattrs=((b"user.x", bytes(60_000)),)) for n in endless[:40]]
    for leaf in cut_entries(heavy):
        assert len(encode_page(TreePage(entries=tuple(leaf)))) < PAGE_MAX_BYTES + 70_000


# -- a hostile page -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        [b""],
        [b"."],
        [b".."],
        [b"a/b"],
        [b"a\0b"],
        [b"b", b"a"],
        [b"a", b"a"],
        [b"/etc/passwd"],
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(bad: list[bytes]) -> None:
    """Nothing above needs to think of `..` again: leaves and inner pages alike."""
    leaf = TreePage(entries=tuple(Entry(name=name) for name in bad))
    inner = TreePage(pages=tuple(PageRef(name, bytes(32)) for name in bad))
    for page in (leaf, inner):
        with pytest.raises(ObjectDamaged):
            decode_page(encode_page(page))


def test_a_page_is_leaf_or_inner_page() -> None:
    """Not both at once."""
    both = TreePage(entries=(Entry(name=b"a"),), pages=(PageRef(b"a", bytes(32)),))
    with pytest.raises(ObjectDamaged):
        decode_page(encode_page(both))


@pytest.mark.parametrize(
    "field",
    [
        {"mode": 2**32},
        {"uid": -1},
        {"gid": 2**40},
        {"size": -1},
        {"size": 2**63},
        {"mtime_ns": 2**63},
        {"depth": -1},
        {"kind": 9},
        {"flaw": 77},
        {"links": -1},
    ],
)
def test_a_number_that_no_kernel_takes_is_refused(field: dict[str, int]) -> None:
    """It would end as an OverflowError in a system call."""
    with pytest.raises(ObjectDamaged):
        decode_page(encode_page(TreePage(entries=(Entry(name=b"a", **field),))))  # type: ignore[arg-type]


def test_letters_of_a_later_version_are_ignored_and_hostile_bytes_are_damage() -> None:
    """Room to grow, but not to crash."""
    page = {"e": [{"n": b"a", "zz": {"new": [1, 2]}}], "q": 1}
    assert decode_page(msgspec.msgpack.encode(page)).entries == (Entry(name=b"a"),)
    for hostile in (
        b"",
        b"\xc1",
        b"\x81\xa1e\xdd\xff\xff\xff\xff",
        b"\x81\xa1z" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa1e\x91\x81\xa1n\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(ObjectDamaged):
            decode_page(hostile)


@given(st.binary(max_size=60))
@example(b"\x81\xa1e\x91\x81\xa1n\xc4\x01a")
def test_any_bytes_are_a_page_or_damage(data: bytes) -> None:
    """Nothing but our own error comes out."""
    try:
        decode_page(data)
    except ObjectDamaged:
        return


# -- extents --------------------------------------------------------------------------------------


def _flat(pages: _Pages, content: bytes, depth: int) -> list[tuple[bytes, int]]:
    out: list[tuple[bytes, int]] = []
    for extent in unpack_extents(content):
        if depth:
            inner = _flat(pages, pages.by_id[extent.id], depth - 1)
            assert sum(length for _, length in inner) == extent.length
            out += inner
        else:
            out.append((extent.id, extent.length))
    return out


@pytest.mark.parametrize("count", [0, 1, INLINE_EXTENTS, INLINE_EXTENTS + 1, 5000, 150_000])
@pytest.mark.parametrize("holes", [0.0, 0.5, 1.0])
def test_extents_unfold_to_what_was_folded(count: int, holes: float) -> None:
    """Short and long, dense and all holes: what stands in an entry stays small."""
    rng = random.Random(count)
    extents = [
        (HOLE if rng.random() < holes else rng.randbytes(32), rng.randrange(1, 10**6))
        for _ in range(count)
    ]
    pages = _Pages()
    content, depth = fold_extents(extents, pages.put)
    assert len(content) <= INLINE_EXTENTS * 40
    assert _flat(pages, content, depth) == extents
    assert (depth == 0) == (count <= INLINE_EXTENTS)
    assert depth <= 3
    assert all(len(page) <= 2048 * 40 for page in pages.by_id.values())


def test_a_changed_extent_changes_few_content_pages() -> None:
    """A table space in which one block changed is not named anew."""
    rng = random.Random(3)
    extents = [(rng.randbytes(32), 1000) for _ in range(50_000)]
    pages = _Pages()
    fold_extents(extents, pages.put)
    before = set(pages.by_id)
    extents[25_000] = (rng.randbytes(32), 1000)
    fold_extents(extents, pages.put)
    assert len(set(pages.by_id) - before) <= 6


def test_a_torn_list_of_extents_is_damage() -> None:
    """It ends inside an extent."""
    with pytest.raises(ObjectDamaged):
        list(unpack_extents(pack_extents([(HOLE, 1)])[:-1]))


# -- through the repository -----------------------------------------------------------------------


class _Vault:
    """A vault whose tree pages a test writes itself."""

    def __init__(self, scratch: Path) -> None:
        self.store = MemoryStore()
        self.secrets, keys = make_vault(self.store)
        self._scratch = scratch
        cache = IndexCache(scratch / "w", self.store, keys.vault, keys.index())
        self.writer = VaultWriter(self.store, keys, cache)
        self.pack = self.writer.builder(PackKind.TREE)

    def put(self, page: bytes) -> TreeId:
        return put_page(self.writer, self.pack, page)

    def reader(self) -> VaultReader:
        self.writer.put(self.pack)
        self.writer.flush()
        return open_reader(self.store, self.secrets, self._scratch / "r")


def test_a_reader_yields_a_large_directory_in_order(tmp_path: Path) -> None:
    """root_of and entries are inverse, through packs and index."""
    vault = _Vault(tmp_path)
    leaves = [
        PageRef(leaf[0].name, vault.put(encode_page(TreePage(entries=tuple(leaf)))))
        for leaf in cut_entries(Entry(name=name) for name in NAMES)
    ]
    root = root_of(leaves, vault.put)
    reader = vault.reader()
    assert [entry.name for entry in reader.entries(root)] == NAMES
    assert list(reader.entries(b"")) == []


def test_a_deep_chain_of_inner_pages_is_refused(tmp_path: Path) -> None:
    """Each names the next: a hostile tree must not exhaust the stack."""
    vault = _Vault(tmp_path)
    id_ = vault.put(encode_page(TreePage(entries=(Entry(name=b"a"),))))
    for _ in range(2000):
        id_ = vault.put(encode_page(TreePage(pages=(PageRef(b"a", id_),))))
    with pytest.raises(ObjectDamaged, match="deeper"):
        list(vault.reader().entries(id_))


def test_pages_that_repeat_are_refused_before_they_multiply(tmp_path: Path) -> None:
    """A page named many times over, at many levels, would be a bomb."""
    vault = _Vault(tmp_path)
    id_ = vault.put(encode_page(TreePage(entries=(Entry(name=b"a"),))))
    for _ in range(40):
        refs = (PageRef(b"a", id_), PageRef(b"b", id_))
        id_ = vault.put(encode_page(TreePage(pages=refs)))
    with pytest.raises(ObjectDamaged, match="another name"):
        list(vault.reader().entries(id_))


def test_pages_that_overlap_or_are_empty_are_refused(tmp_path: Path) -> None:
    """Names come in order across pages too."""
    vault = _Vault(tmp_path)
    one = vault.put(encode_page(TreePage(entries=(Entry(name=b"a"), Entry(name=b"z")))))
    two = vault.put(encode_page(TreePage(entries=(Entry(name=b"b"),))))
    empty = vault.put(encode_page(TreePage()))
    overlapping = vault.put(encode_page(TreePage(pages=(PageRef(b"a", one), PageRef(b"b", two)))))
    hollow = vault.put(encode_page(TreePage(pages=(PageRef(b"a", empty),))))
    reader = vault.reader()
    for root in (overlapping, hollow):
        with pytest.raises(ObjectDamaged):
            list(reader.entries(root))


def test_long_files_read_from_any_byte(tmp_path: Path) -> None:
    """Extents start with the one that holds it, at its own offset."""
    vault = _Vault(tmp_path)
    rng = random.Random(5)
    extents = [(rng.randbytes(32), rng.randrange(1, 50)) for _ in range(5000)]
    content, depth = fold_extents(extents, vault.put)
    size = sum(length for _, length in extents)
    entry = Entry(name=b"f", size=size, content=content, depth=depth)
    reader = vault.reader()
    whole = [(offset, extent.id, extent.length) for offset, extent in reader.extents(entry)]
    assert [(id_, length) for _, id_, length in whole] == extents
    for start in (0, 1, size // 2, size - 1):
        offset, extent = next(reader.extents(entry, start))
        assert offset <= start < offset + extent.length
        assert (offset, extent.id, extent.length) in whole
    assert list(reader.extents(entry, size)) == []


def test_extents_that_do_not_add_up_are_damage(tmp_path: Path) -> None:
    """At the top and in a page below; none may be empty, or reading would not end."""
    vault = _Vault(tmp_path)
    page = vault.put(pack_extents([(b"x" * 32, 10)]))
    empty = vault.put(pack_extents([(b"x" * 32, 0)] * 50))
    reader = vault.reader()
    for entry in (
        Entry(name=b"f", size=11, content=pack_extents([(b"x" * 32, 10)])),
        Entry(name=b"f", size=11, depth=1, content=pack_extents([(page, 11)])),
        Entry(name=b"f", size=0, depth=1, content=pack_extents([(empty, 0)] * 60)),
        Entry(name=b"f", size=10, depth=9, content=pack_extents([(page, 10)])),
        Entry(name=b"f", size=10, content=pack_extents([(page, 10)])[:-1]),
    ):
        with pytest.raises(ObjectDamaged):
            list(reader.extents(entry))
    fine = Entry(name=b"f", size=10, depth=1, content=pack_extents([(page, 10)]))
    assert [extent.length for _, extent in reader.extents(fine)] == [10]
