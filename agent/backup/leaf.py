"""The entries of a leaf page: merged with changes, counted, and whether the page ends with them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent.model.tree import PAGE_MAX_BYTES, PAGE_MAX_ENTRIES, Entry, Flaw, Kind
from agent.repository.trees import ends_page, entry_weight

Change = tuple[bytes, Entry | None]
"""A name and its new entry, or None where the name is gone."""

_UNREADABLE = (Flaw.UNREADABLE, Flaw.UNLISTED)


class Totals(NamedTuple):
    """What a parent's entry says of a directory, apart from its metadata."""

    tree: bytes
    files: int
    bytes: int


def counts(entries: Sequence[Entry]) -> tuple[int, int, int, int]:
    """Return files, bytes, entries that changed while read, and unreadable ones, of a page."""
    files = size = changed = unreadable = 0
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            files += entry.files
            size += entry.bytes
        else:
            files += 1
            size += entry.size
        if entry.flaw is Flaw.CHANGED_WHILE_READ:
            changed += 1
        elif entry.flaw in _UNREADABLE:
            unreadable += 1
    return files, size, changed, unreadable


def with_totals(entry: Entry, totals: Mapping[bytes, Totals]) -> Entry:
    """Return the entry with what `totals` has for its name."""
    new = totals.get(entry.name)
    if new is None:
        return entry
    return msgspec.structs.replace(entry, tree=new.tree, files=new.files, bytes=new.bytes)


def merged(entries: Sequence[Entry], changes: Sequence[Change]) -> list[Entry]:
    """Return entries in name order after changes, which are in name order too."""
    if not changes:
        return list(entries)
    if not entries or entries[-1].name < changes[0][0]:  # what a first scan does all the time
        return [*entries, *(entry for _, entry in changes if entry is not None)]
    by_name = {entry.name: entry for entry in entries}
    for name, entry in changes:
        if entry is None:
            by_name.pop(name, None)
        else:
            by_name[name] = entry
    return [by_name[name] for name in sorted(by_name)]


def end_below(changes: Sequence[Change], at: int, upper: bytes | None) -> int:
    """Return the position after the last change, from `at` on, whose name is below `upper`."""
    if upper is None:
        return len(changes)
    while at < len(changes) and changes[at][0] < upper:
        at += 1
    return at


def is_cut(entries: Sequence[Entry]) -> bool:
    """Tell whether a page ends after these entries whatever follows."""
    return (
        ends_page(entries[-1].name)
        or len(entries) >= PAGE_MAX_ENTRIES
        or sum(map(entry_weight, entries)) >= PAGE_MAX_BYTES
    )
