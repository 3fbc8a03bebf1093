"""Fuzz targets of packs and indexes, whose storage or writer is hostile.

What lies in a box is fuzzed inside it: a target seals the bytes first, as a hostile writer can.
"""

import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice

from agent.crypto.naming import object_name
from agent.model.ids import PackId
from agent.model.location import PackKind
from agent.repository import layout, pack
from agent.repository.index import Index
from agent.repository.indexcache import open_index
from agent.repository.indexfile import IndexFile
from agent.repository.indexmaking import merge
from agent.repository.packtable import check_structure, read_contents
from agent.store.memory import MemoryStore
from tests.fuzz.target import Target
from tests.fuzz.vectors import DAMAGED, INDEX_KEY, vector
from tests.vectors.generate import SECRETS

_NAME = "00" * 32
_SIZE = struct.Struct("<Q")


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
        ("agent.repository.indexfile:IndexFile", "agent.repository.indexmaking:merge"),
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
)
