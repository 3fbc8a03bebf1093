"""How directories are cut into pages and long files into content pages (docs/format.md 6).

Cuts depend on names (of entries) and ids (of extents) alone, so that one changed file changes one
page, wherever it stands, and the same directory gives the same pages on every host and day.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from agent.model.ids import TreeId
from agent.model.tree import (
    INLINE_EXTENTS,
    PAGE_MAX_BYTES,
    PAGE_MAX_ENTRIES,
    PAGE_MEAN_ENTRIES,
    Entry,
    PageRef,
    TreePage,
    encode_page,
    pack_extents,
)

PutPage = Callable[[bytes], TreeId]
"""Stores a page's plaintext unless it is known, and returns its id."""

_CUT_MASK = PAGE_MEAN_ENTRIES - 1
_LEVEL_SHIFT = 8  # each level looks at bits of its own, or all levels would cut together
_CONTENT_MIN_EXTENTS = 32  # keeps a file full of holes, whose ids are all alike, from tiny pages
_CONTENT_MAX_EXTENTS = 2048


def cut_entries(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the leaves of a directory from its entries in name order."""
    page: list[Entry] = []
    weight = 0
    for entry in entries:
        page.append(entry)
        weight += entry_weight(entry)
        full = len(page) >= PAGE_MAX_ENTRIES or weight >= PAGE_MAX_BYTES
        if full or ends_page(entry.name):
            yield page
            page, weight = [], 0
    if page:
        yield page


def ends_page(name: bytes) -> bool:
    """Tell whether a leaf ends after this name, by the name alone."""
    return zlib.crc32(name) & _CUT_MASK == 0


def entry_weight(entry: Entry) -> int:
    """Return the bytes that count towards PAGE_MAX_BYTES."""
    attributes = sum(len(name) + len(value) for name, value in entry.xattrs)
    weight = len(entry.name) + len(entry.content) + len(entry.target) + attributes
    return weight + (sum(map(len, msgspec.structs.astuple(entry.dicom))) if entry.dicom else 0)


def root_of(leaves: Sequence[PageRef], put: PutPage) -> bytes:
    """Return the root of a directory with these leaves, storing the inner pages above them.

    No leaf: empty bytes, an empty directory.  One leaf is its own root.
    """
    if not leaves:
        return b""
    refs, level = leaves, 1
    while len(refs) > 1:
        refs = [
            PageRef(group[0].first, put(encode_page(TreePage(pages=tuple(group)))))
            for group in _cut_refs(refs, level)
        ]
        level += 1
    return refs[0].id


def fold_extents(extents: Sequence[tuple[bytes, int]], put: PutPage) -> tuple[bytes, int]:
    """Return (`content`, `depth`) for an entry, storing content pages where the list is long."""
    depth = 0
    while len(extents) > INLINE_EXTENTS:
        extents = [
            (put(pack_extents(page)), sum(length for _, length in page))
            for page in _cut_extents(extents)
        ]
        depth += 1
    return pack_extents(extents), depth


def _cut_refs(refs: Sequence[PageRef], level: int) -> Iterator[list[PageRef]]:
    """Yield the groups of an inner level; at least two a group, so that levels always shrink."""
    shift = _LEVEL_SHIFT * min(level, 3)
    group: list[PageRef] = []
    for position, ref in enumerate(refs):
        group.append(ref)
        ends = zlib.crc32(ref.first) >> shift & _CUT_MASK == 0 or len(group) >= PAGE_MAX_ENTRIES
        if ends and len(group) >= 2 and position != len(refs) - 2:
            yield group
            group = []
    if group:
        yield group


def _cut_extents(extents: Sequence[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    page: list[tuple[bytes, int]] = []
    for extent in extents:
        page.append(extent)
        ends = extent[0][0] == 0 and len(page) >= _CONTENT_MIN_EXTENTS
        if ends or len(page) >= _CONTENT_MAX_EXTENTS:
            yield page
            page = []
    if page:
        yield page
