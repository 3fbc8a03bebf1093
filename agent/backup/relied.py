"""What an unfinished run relies on, as its journal notes it, and whether that may still be there.

A clean journal names what the last snapshot needs, which is never removed.  That of an interrupted
run names packs that no snapshot protects: prune may have condemned them since.
"""

from typing import Final

from agent.backup.journal import Journal
from agent.model.ids import ID_BYTES, PackId
from agent.repository.condemned import REMEMBERED
from agent.repository.writer import VaultWriter

MOST_PACKS: Final = 64 * 1024  # that are noted one by one, 2 MiB: a run of 2 TB
_KNOWN: Final = b"packs"  # before them; else nobody knows which


def mark_open(journal: Journal, writer: VaultWriter) -> None:
    """Note, before the first pack is put, that a crash leaves packs to adopt; durable on return.

    As yet the journal relies on nothing but the last snapshot.
    """
    journal.note("clean", b"")
    journal.note("packs", b"%d" % writer.reliance.record)
    journal.note("relied", _KNOWN)
    journal.commit()


def note_relied(journal: Journal, writer: VaultWriter) -> None:
    """Note what the journal will rely on from the next commit on, if a run is under way."""
    if journal.fact("clean"):
        return
    packs = writer.reliance.packs
    is_known = writer.reliance.is_known and len(packs) <= MOST_PACKS
    value = b"".join((_KNOWN, *sorted(packs))) if is_known else b""
    if journal.fact("relied") != value:
        journal.note("relied", value)


def make_durable(journal: Journal, writer: VaultWriter) -> None:
    """Index every pack that was put, and only then let the journal name them."""
    writer.flush()
    note_relied(journal, writer)
    journal.commit()


def heed_prune(journal: Journal, writer: VaultWriter, *, is_old: bool) -> None:
    """Have a journal rebuilt that may name chunks which prune has condemned since.

    One that `is_old` was put back: the snapshot that it goes by may be gone.
    """
    reliance, since = writer.reliance, journal.fact("packs")
    packs = _relied(journal) if since and not is_old else None
    if since:
        is_long_ago = reliance.record - int(since) >= REMEMBERED
        if packs is None or is_long_ago:
            is_affected = reliance.condemned_since(int(since))
        else:
            is_affected = bool(packs & reliance.doomed)
        if is_affected:
            journal.rebuild("speaks of packs that may have been deleted since")
            since = b""
    if not since:  # it is new
        packs = frozenset()
        journal.note("relied", _KNOWN)
    if packs is None:
        reliance.inherit()
    else:
        reliance.packs.update(packs)
    journal.note("packs", b"%d" % reliance.record)


def _relied(journal: Journal) -> frozenset[PackId] | None:
    fact = journal.fact("relied")
    if not fact:
        return None
    starts = range(len(_KNOWN), len(fact), ID_BYTES)
    return frozenset(PackId(fact[at : at + ID_BYTES]) for at in starts)
