"""Fuzz targets of tree pages and extents, which a hostile writer may have made."""

import struct
from collections.abc import Iterator
from itertools import islice

from agent.errors import ObjectDamaged
from agent.model.location import PackKind
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
from agent.repository.reader import VaultReader
from tests.fuzz.target import KiB, Target
from tests.vectors.generate import tree_pages

_LAYOUT = struct.Struct("<QBBH")  # size and depth of a file, which pages, bytes in its entry
_SIGHT = 2000  # of extents: a hostile file may have as many as bytes


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


TARGETS = (
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
