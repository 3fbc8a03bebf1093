"""What a directory holds beside what the journal knows of it: name by name, and what differs."""

import stat
from collections.abc import Iterable, Iterator, Sequence

from agent.backup.listing import Found, is_unchanged
from agent.model.tree import Entry, Flaw, Kind

Pair = tuple[Found | None, Entry | None]
"""A name as it is found and as it is known; one of them may be missing."""


def pairs(found: Iterable[Found], known: Iterable[Entry]) -> Iterator[Pair]:
    """Yield what is found and what is known, side by side; both come in name order."""
    entries = iter(known)
    entry = next(entries, None)
    for one in found:
        while entry is not None and entry.name < one.name:
            yield None, entry
            entry = next(entries, None)
        if entry is not None and entry.name == one.name:
            yield one, entry
            entry = next(entries, None)
        else:
            yield one, None
    while entry is not None:
        yield None, entry
        entry = next(entries, None)


def is_same(found: Found | None, entry: Entry | None) -> bool:
    """Tell whether an entry, whole when it was made, still describes what is found."""
    return (
        found is not None
        and entry is not None
        and is_unchanged(entry, found.stat)
        and entry.flaw is Flaw.NONE
    )


def is_same_run(found: Sequence[Found], known: Sequence[Entry]) -> bool:
    """Tell whether that is so of each of some names: what most of a scan finds out."""
    return len(found) == len(known) and all(map(_is_same_name, found, known))


def _is_same_name(found: Found, entry: Entry) -> bool:
    return found.name == entry.name and is_same(found, entry)


def is_below(found: Found, entry: Entry | None, *, everything: bool) -> bool:
    """Tell whether to go on below: a directory, of all or of those that are not what was known."""
    if not stat.S_ISDIR(found.stat.st_mode):
        return False
    known = entry is not None and entry.kind is Kind.DIRECTORY
    return everything or not known or (entry is not None and entry.inode != found.stat.st_ino)
