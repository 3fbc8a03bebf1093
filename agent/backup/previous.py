"""The last snapshot as the journal notes it, and whether the repository still bears that out."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from agent.backup.journal import Journal
from agent.crypto.secrets import WriterKeys
from agent.model.snapshot import SnapshotInfo
from agent.repository import layout
from agent.repository.chain import decode_snapshot
from agent.repository.writer import Tip
from agent.store.base import Store

Record = Callable[[SnapshotInfo], None]
"""Writes the audit record of a snapshot; blocks."""


class Previous(NamedTuple):
    """The last snapshot, as the journal notes it."""

    tip: Tip
    root: bytes
    taken_ns: int


def note(journal: Journal, last: Previous) -> None:
    """Note a snapshot, and that nothing is under way; durable on return."""
    facts = {"last": msgspec.msgpack.encode(last), "clean": b"1"}
    for key, value in facts.items():
        if journal.fact(key) != value:
            journal.note(key, value)
    journal.commit()


def noted(journal: Journal) -> Previous | None:
    """Return what the journal notes, or None before the first."""
    fact = journal.fact("last")
    return msgspec.msgpack.decode(fact, type=Previous) if fact else None


def forget(journal: Journal) -> None:
    """Forget what was read, so that everything is, and is stored where it no longer is."""
    last = journal.fact("last")
    journal.rebuild("is begun anew, as was asked for")
    if last:
        journal.note("last", last)  # the snapshot that it names is on record


def is_old(tip: Tip, journal: Journal) -> bool:
    """Tell whether the journal was put back: there is a later snapshot than it knows."""
    known = noted(journal)
    return known is not None and tip.sequence > known.tip.sequence


def is_behind(tip: Tip, journal: Journal) -> bool:
    """Tell whether the repository lacks what the journal takes for stored: it was put back."""
    known = noted(journal)
    if known is None:
        return False
    if tip.sequence == known.tip.sequence:
        return tip.id != known.tip.id
    return tip.sequence < known.tip.sequence


def last_taken(
    journal: Journal, tip: Tip, store: Store, keys: WriterKeys, record: Record
) -> Previous | None:
    """Return what this host's last snapshot was, or None before the first.

    One that was stored without our hearing of it is recorded now.
    """
    if not tip.sequence:
        return None
    before = noted(journal)
    if before is not None and before.tip == tip:
        return before
    vault, host = keys.vault, keys.host()
    data = store.get(layout.snapshot(vault, host, tip.sequence))
    verify = keys.signer().verify_key()
    info = decode_snapshot(data, keys.index(), verify, vault, host, tip.sequence)
    # Behind by more than one is a journal that was lost: those had been recorded.
    if (before.tip.sequence if before else 0) == tip.sequence - 1:
        record(info)
    return Previous(tip, info.snapshot.root, info.snapshot.taken_ns)
