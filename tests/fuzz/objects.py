"""Fuzz targets of agent/repository and agent/model: objects whose storage or writer is hostile.

What lies in a box is fuzzed inside it: a target seals the bytes first, as a hostile writer can.
"""

import base64
import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice

import msgspec

from agent.crypto.box import IndexKey
from agent.crypto.naming import host_id, object_name
from agent.crypto.signing import SigningKey
from agent.errors import ChainBroken, NotARepository, ObjectDamaged, RepositoryTooNew, WrongKey
from agent.model.ids import PackId
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.model.tree import (
    DicomIdentity,
    Entry,
    Flaw,
    PageRef,
    TreePage,
    decode_page,
    encode_page,
    pack_extents,
    unpack_extents,
)
from agent.repository import chain, layout, pack, removals, signedbox
from agent.repository.index import Index, IndexFile, merge
from agent.repository.indexcache import open_index
from agent.repository.packtable import check_structure, read_contents
from agent.repository.reader import VaultReader
from agent.repository.vaults import (
    check_enrolment,
    open_repository,
    read_enrolment,
    writer_name,
)
from agent.store.memory import MemoryStore
from tests.fuzz.target import KiB, Target
from tests.vectors.generate import HERE, HOST_KEY, SECRETS, TIME_NS, tree_pages

KEYS = SECRETS.writer(HOST_KEY)
INDEX_KEY: IndexKey = KEYS.index()
SIGNER = SigningKey(HOST_KEY)
HOST = host_id(SIGNER.verify_key().raw)
_NAME = "00" * 32
_SIZE = struct.Struct("<Q")
_LAYOUT = struct.Struct("<QBBH")  # size and depth of a file, which pages, bytes in its entry
_SIGHT = 2000  # of extents: a hostile file may have as many as bytes


class _Vector(msgspec.Struct):
    name: str
    object: str


@cache
def vector(kind: str) -> tuple[str, bytes]:
    """Return the name and the bytes of a frozen object."""
    found = msgspec.json.decode((HERE / f"{kind}.json").read_bytes(), type=_Vector)
    return found.name, base64.b64decode(found.object)


# -- packs --------------------------------------------------------------------------------------


@cache
def _header() -> pack.Header:
    name, data = vector("pack-data")
    return pack.parse_header(data[: pack.PREAMBLE_BYTES], name)


def _table_of(kind: str) -> bytes:
    name, data = vector(kind)
    offset, length = pack.parse_trailer(data[-pack.TRAILER.size :], len(data), name)
    header = pack.parse_header(data[: pack.PREAMBLE_BYTES], name)
    context = b"vitrine pack table\0" + header.digest
    return INDEX_KEY.open(data[offset : offset + length], context, name)


def _pack_header(data: bytes) -> None:
    """Check that a header is all of its bytes."""
    header = pack.parse_header(data, _NAME)
    assert header.context + header.sealed_key == data[: pack.PREAMBLE_BYTES]
    assert header.kind in PackKind


def _pack_trailer(data: bytes) -> None:
    """Check that a table lies between the sealed key and the trailer."""
    (size,) = _SIZE.unpack(data[:8].ljust(8, b"\0"))
    offset, length = pack.parse_trailer(data[8:], size, _NAME)
    assert offset >= pack.PREAMBLE_BYTES
    assert offset + length + pack.TRAILER.size == size
    assert length <= pack.MAX_TABLE_BYTES


def _pack_table(data: bytes) -> None:
    """Check that every chunk lies within its frame."""
    sealed = INDEX_KEY.seal(data, b"vitrine pack table\0" + _header().digest)
    frames, chunks = pack.open_table(sealed, _header(), INDEX_KEY, _NAME)
    for chunk in chunks:
        assert chunk.offset + chunk.length <= frames[chunk.frame].plain


def _whole_pack(data: bytes) -> None:
    """Read a pack as its storage may have it."""
    id_ = PackId(object_name(data))
    store = MemoryStore()
    store.put(layout.pack(id_), [data])
    check_structure(store, id_, len(data))
    contents = read_contents(store, INDEX_KEY, SECRETS.vault, id_, len(data))
    assert contents is None or contents.size == len(data)


# -- indexes ------------------------------------------------------------------------------------


def _index_plain() -> Iterator[bytes]:
    name, data = vector("index")
    plain = open_index(data, INDEX_KEY, name)
    yield plain
    yield merge([IndexFile(plain, _NAME)])


def _index(data: bytes) -> None:
    """Check that a merged index finds what its source finds, at the same places."""
    file = IndexFile(data, _NAME)
    merged = IndexFile(merge([file]), "11" * 32)
    assert [row.id for row in merged.packs()] == [*dict.fromkeys(row.id for row in file.packs())]
    both = Index([file, merged])
    for at in range(len(data) - 48 * min(file.chunk_count, 64), len(data), 48):
        id_ = data[at : at + 32]
        found = file.find(id_)
        again = merged.find(id_)
        if len([*merged.packs()]) == file.pack_count:
            assert again == found
        assert (found is None) or id_ in both
        for frame in islice(both.frames_after(id_, 0), 64):
            assert frame.number > 0


def _index_object(data: bytes) -> None:
    """Read an index object as its storage may have it."""
    open_index(data, INDEX_KEY, f"index/{_NAME}/{object_name(data).hex()}")


# -- snapshots, enrolments, the repository ------------------------------------------------------


def _snapshot_plain() -> Iterator[bytes]:
    _, data = vector("snapshot")
    info = _decoded(data)
    yield msgspec.msgpack.encode(info.snapshot)


def _decoded(data: bytes) -> SnapshotInfo:
    return chain.decode_snapshot(data, INDEX_KEY, SIGNER.verify_key(), SECRETS.vault, HOST, 1)


def _snapshot(data: bytes) -> None:
    """Check that what a writer signed decodes to what it says, and is written again as the same."""
    place = SECRETS.vault + HOST + _SIZE.pack(1)
    info = _decoded(signedbox.seal(chain.FORM, place, data, INDEX_KEY, SIGNER))
    assert info.snapshot == msgspec.msgpack.decode(data, type=Snapshot)
    again = _decoded(chain.encode_snapshot(info.snapshot, INDEX_KEY, SIGNER))
    assert again.snapshot == info.snapshot


def _snapshot_object(data: bytes) -> None:
    """Check that of what the storage may have only the writer's own bytes pass."""
    assert _decoded(data).snapshot.host == HOST


def _removal(data: bytes) -> None:
    """Check that a record has one meaning, and that no record makes a chain out of nothing."""
    place = SECRETS.vault + _SIZE.pack(1)
    authority = SigningKey(SECRETS.authority)
    sealed = signedbox.seal(removals.FORM, place, data, INDEX_KEY, authority)
    store = MemoryStore()
    store.put(layout.removal(SECRETS.vault, 1), [sealed])
    found = removals.read_removals(store, SECRETS.reader())
    record = removals.decode_record(sealed, INDEX_KEY, None, SECRETS.vault, 1)
    again = removals.encode_record(record, INDEX_KEY, authority)
    assert removals.decode_record(again, INDEX_KEY, None, SECRETS.vault, 1) == record
    chains = chain.Chains(store, SECRETS.vault, INDEX_KEY, {HOST: SIGNER.verify_key()})
    assert not [*chains.snapshots(found)]


def _removal_seeds() -> Iterator[bytes]:
    removed = (removals.Removed(HOST, 1, b"\1" * 32, bytes(32)),)
    first = removals.RemovalRecord(SECRETS.vault, 1, removals.NO_RECORD, TIME_NS, removed)
    yield msgspec.msgpack.encode(first)


def _removal_object(data: bytes) -> None:
    """Check that of what the storage may have only the authority's own bytes pass."""
    key = SECRETS.reader().authority_key()
    removals.decode_record(data, INDEX_KEY, key, SECRETS.vault, 1)


def _enrolment(data: bytes) -> None:
    """Read an enrolment as its storage may have it."""
    name, _ = vector("enrolment")
    store = MemoryStore()
    store.put(name, [data])
    writer_name(store, SECRETS.vault, HOST, INDEX_KEY)
    check_enrolment(read_enrolment(store, name), SECRETS.reader().authority_key())


def _repository(data: bytes) -> None:
    """Read the first object of what somebody says is a repository."""
    store = MemoryStore()
    store.put(layout.REPOSITORY, [data])
    open_repository(store)


def _names(data: bytes) -> None:
    """Check that a name that is understood is the one name of what it names."""
    name = data.decode(errors="replace")
    id_ = layout.pack_id(name)
    assert id_ is None or layout.pack(id_) == name
    layout.index_id(name)
    layout.slot_vault(name)
    place = layout.snapshot_place(name)
    assert place is None or name.endswith(f"/{place[0].hex()}/{place[1]:016x}")


def _name_seeds() -> Iterator[bytes]:
    for kind in ("pack-data", "index", "snapshot", "enrolment", "keyslot-credential"):
        yield vector(kind)[0].encode()


# -- trees --------------------------------------------------------------------------------------


def _page(data: bytes) -> None:
    """Check that a page that decodes has one encoding, which decodes to it."""
    page = decode_page(data)
    encoded = encode_page(page)
    assert decode_page(encoded) == page
    assert encode_page(decode_page(encoded)) == encoded
    for entry in page.entries:
        list(islice(_extents_of(entry, []), _SIGHT))


class _Pages(VaultReader):
    """A reader whose content pages are few, and found by any id."""

    def __init__(self, pages: list[bytes]) -> None:
        self._pages = pages

    def _plain(self, id_: bytes, kind: PackKind) -> memoryview:
        del kind
        if not self._pages:
            raise ObjectDamaged("there is no such page")
        return memoryview(self._pages[id_[0] % len(self._pages)])


def _extents_of(entry: Entry, pages: list[bytes]) -> Iterator[tuple[int, int]]:
    end = 0
    try:
        for offset, extent in _Pages(pages).extents(entry):
            assert offset == end
            assert extent.length > 0
            end += extent.length
            yield offset, extent.length
    except ObjectDamaged:
        return
    assert end in {entry.size, 0}


def _extents(data: bytes) -> None:
    """Check that extents follow each other without a gap and cover the file, however pages nest."""
    size, depth, count, inline = _LAYOUT.unpack(data[: _LAYOUT.size].ljust(_LAYOUT.size, b"\0"))
    data = data[_LAYOUT.size :]
    list(unpack_extents(data[: len(data) - len(data) % 40]))
    content, rest = data[:inline], data[inline:]
    step = max(1, len(rest) // max(1, count))
    pages = [rest[at : at + step] for at in range(0, len(rest), step)]
    entry = Entry(name=b"f", size=size % 2**63, content=content, depth=depth)
    list(islice(_extents_of(entry, pages), _SIGHT))


def _extent_seeds() -> Iterator[bytes]:
    inner = pack_extents([(bytes([n]) * 32, 5) for n in range(1, 9)])
    outer = pack_extents([(b"\1" * 32, 40), (b"\2" * 32, 40), (bytes(32), 20)])
    yield _LAYOUT.pack(40, 0, 1, len(inner)) + inner
    yield _LAYOUT.pack(100, 1, 2, len(outer)) + outer + inner * 2


def _page_seeds() -> Iterator[bytes]:
    yield from tree_pages()
    identity = DicomIdentity(b"1.2.840", b"1.2.840.1", b"1.2.840.1.1", b"4711", b"CT")
    image = Entry(name=b"1.dcm", size=5, content=pack_extents([(b"\1" * 32, 5)]), dicom=identity)
    changed = Entry(name=b"2", flaw=Flaw.CHANGED_WHILE_READ, inode=7, links=2, depth=1)
    yield encode_page(TreePage(entries=(image, changed)))
    yield encode_page(TreePage(pages=(PageRef(b"1.dcm", b"\1" * 32), PageRef(b"2", b"\2" * 32))))


DAMAGED = (ObjectDamaged, RepositoryTooNew)
TARGETS = (
    Target(
        "pack_header",
        ("agent.repository.pack:parse_header",),
        _pack_header,
        errors=DAMAGED,
        seeds=lambda: [vector("pack-data")[1][: pack.PREAMBLE_BYTES]],
    ),
    Target(
        "pack_trailer",
        ("agent.repository.pack:parse_trailer",),
        _pack_trailer,
        errors=DAMAGED,
        seeds=lambda: [_SIZE.pack(len(data)) + data[-16:] for _, data in [vector("pack-data")]],
    ),
    Target(
        "pack_table",
        ("agent.repository.pack:open_table",),
        _pack_table,
        errors=DAMAGED,
        seeds=lambda: map(_table_of, ("pack-data", "pack-tree", "pack-numbers")),
    ),
    Target(
        "pack",
        ("agent.repository.packtable:read_contents", "agent.crypto.box:BoxKey"),
        _whole_pack,
        errors=DAMAGED,
        seeds=lambda: [vector("pack-data")[1], vector("pack-tree")[1]],
    ),
    Target(
        "index",
        ("agent.repository.index:IndexFile", "agent.repository.index:merge"),
        _index,
        errors=DAMAGED,
        seeds=_index_plain,
    ),
    Target(
        "index_object",
        ("agent.repository.indexcache:open_index",),
        _index_object,
        errors=DAMAGED,
        seeds=lambda: [vector("index")[1]],
    ),
    Target(
        "snapshot",
        ("agent.repository.chain:decode_snapshot",),
        _snapshot,
        errors=DAMAGED,
        seeds=_snapshot_plain,
    ),
    Target(
        "snapshot_object",
        ("agent.repository.chain:check_signature",),
        _snapshot_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1]],
    ),
    Target(
        "removal",
        ("agent.repository.removals:read_removals", "agent.repository.chain:Chains"),
        _removal,
        errors=(*DAMAGED, ChainBroken),
        seeds=_removal_seeds,
    ),
    Target(
        "removal_object",
        ("agent.repository.removals:decode_record", "agent.repository.signedbox:open_box"),
        _removal_object,
        errors=DAMAGED,
        seeds=lambda: [vector("snapshot")[1].replace(chain.FORM.magic, removals.FORM.magic)],
    ),
    Target(
        "enrolment",
        ("agent.repository.vaults:read_enrolment",),
        _enrolment,
        errors=(*DAMAGED, WrongKey),
        seeds=lambda: [vector("enrolment")[1]],
    ),
    Target(
        "repository_object",
        ("agent.repository.vaults:open_repository",),
        _repository,
        errors=(NotARepository, RepositoryTooNew),
        seeds=lambda: [vector("repository")[1]],
    ),
    Target(
        "names",
        ("agent.repository.layout:pack_id", "agent.repository.layout:snapshot_place"),
        _names,
        seeds=_name_seeds,
        max_bytes=256,
    ),
    Target(
        "page",
        ("agent.model.tree:decode_page",),
        _page,
        errors=(ObjectDamaged,),
        seeds=_page_seeds,
    ),
    Target(
        "extents",
        ("agent.model.tree:unpack_extents", "agent.repository.reader:VaultReader"),
        _extents,
        errors=(ObjectDamaged,),
        seeds=_extent_seeds,
        max_bytes=16 * KiB,
    ),
)
