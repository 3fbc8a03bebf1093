"""A run but for reading files, step by step: what comes before that, and what after.  Blocks.

Order (docs/format.md 7): packs, their index, the journal that names them, the snapshot, the audit
record.  Whatever breaks in between, the journal is as it was at the last checkpoint, packs that
were put and not indexed are adopted by the next run, and nothing is stored twice.
"""

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.backup.batch import Batch
from agent.backup.canaries import Canaries
from agent.backup.journal import Journal
from agent.backup.pages import Pages
from agent.backup.previous import Previous, Record, forget, is_behind, is_old, last_taken, note
from agent.backup.relied import heed_prune
from agent.backup.request import Counts, Outcome, Request
from agent.backup.scan import Scan
from agent.backup.signs import DEFAULT_LIMITS, Limits
from agent.backup.sources import (
    ReadySource,
    Source,
    incomplete,
    make_ready,
    outcomes,
    synchronise,
)
from agent.backup.vigil import Vigil
from agent.clock import Clock
from agent.crypto.secrets import WriterKeys
from agent.errors import JournalError, SourceUnavailable
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.repository.indexcache import IndexCache
from agent.repository.writer import Tip, VaultWriter
from agent.store.base import Store

log = logging.getLogger(__name__)


class Begun(NamedTuple):
    """A run that was begun; `batches` are still to come, `counts` tells what has come."""

    request: Request
    journal: Journal
    pages: Pages
    writer: VaultWriter
    labels: Mapping[int, bytes]
    ready: Sequence[ReadySource]
    missing: Mapping[bytes, str]
    vigil: Vigil
    started_ns: int
    began: float
    scan: Generator[Batch, None, None]
    batches: Iterator[Batch]  # what is left of it
    counts: Counts = Counts()


class Steps:
    """The steps of one vault's runs, one run at a time."""

    def __init__(
        self,
        store: Store,
        keys: WriterKeys,
        sources: Sequence[Source],
        state: Path,
        clock: Clock,
        record: Record,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Take the sources, and the directory `state` that this vault's agent alone uses.

        From `limits` on a snapshot carries signs of an attack.
        """
        self._store = store
        self._keys = keys
        self._sources = tuple(sources)
        self._state = state
        self._clock = clock
        self._record = record
        self._limits = limits
        self._cache = IndexCache(state / "index", store, keys.vault, keys.index())
        self._journal: Journal | None = None
        self._tip: Tip | None = None
        self._last_taken_ns = 0
        self._unscanned = {source.path for source in sources}  # only a full scan knows them

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # -- before ---------------------------------------------------------------------------------

    def begin(self, request: Request) -> Begun:
        """Open what a run needs, and make ready to scan.  `end` it, whatever comes of it."""
        began, started_ns = self._clock.monotonic(), self._clock.now_ns()
        writer = VaultWriter(self._store, self._keys, self._cache)
        if request.reread:
            self._tip = None
        journal = self._opened_journal(writer, reread=request.reread)
        pages = Pages(journal)
        labels = synchronise(journal, pages, self._sources)
        ready, missing = make_ready(journal, pages, self._sources)
        if not ready and not any(journal.directory(number, b"") for number in labels):
            raise SourceUnavailable(
                "no source of this vault can be opened",
                hint="check that the sources exist and that the agent may read them",
            )
        vigil = self._watching(journal, pages, ready, started_ns)
        scan = self._scan(journal, pages, ready, missing, request)
        return Begun(request, journal, pages, writer, labels, ready, missing, vigil, started_ns,
                     began, scan, scan)  # fmt: skip

    def _watching(
        self, journal: Journal, pages: Pages, ready: Sequence[ReadySource], started_ns: int
    ) -> Vigil:
        """Have everything counted from now on that changes in the journal."""
        sequence = (self._tip.sequence if self._tip else 0) + 1
        canaries = Canaries(self._state)
        vigil = Vigil(journal, pages, canaries, sequence, started_ns, self._limits)
        pages.observer = vigil.watch(ready)
        journal.on_commit = vigil.save
        return vigil

    def _opened_journal(self, writer: VaultWriter, *, reread: bool) -> Journal:
        """Return the journal, once it is known to speak of this repository as it is."""
        if self._journal is None:
            self._tip = None
            identity = self._keys.vault + self._keys.host()
            self._journal = Journal(os.fspath(self._state / "journal.sqlite"), identity)
        journal = self._journal
        if self._tip is None:
            self._tip = writer.tip()
            if is_behind(self._tip, journal):
                journal.rebuild("speaks of a later state of the repository")
            elif reread:
                forget(journal)
            if not journal.fact("clean") or is_old(self._tip, journal):
                heed_prune(journal, writer, is_old=is_old(self._tip, journal))
                adopted = writer.adopt_orphans()
                if adopted:
                    log.info("%d packs of an interrupted run were adopted", adopted)
        return journal

    def _scan(
        self,
        journal: Journal,
        pages: Pages,
        ready: Sequence[ReadySource],
        missing: Mapping[bytes, str],
        request: Request,
    ) -> Generator[Batch, None, None]:
        """Scan every source that is there, one after the other."""
        for one in ready:
            path = one.source.path
            scan = Scan(journal, pages, one.open, one.root, one.source.patterns)
            names = request.dirty.get(path, {})
            if request.full or path in self._unscanned or names is None:
                yield from scan.full()
                self._unscanned.discard(path)
            elif names:
                yield from scan.dirty(names)
        self._unscanned |= missing.keys()

    # -- after ----------------------------------------------------------------------------------

    def conclude(self, begun: Begun, counts: Counts) -> Outcome:
        """Commit a snapshot where there is something to tell; all that was stored is durable."""
        taken = self._taken(begun)
        return Outcome(
            taken,
            self._tip or Tip(0, b""),
            self._last_taken_ns,
            counts,
            begun.writer.added_bytes,
            self._clock.monotonic() - begun.began,
            outcomes(begun.journal, self._sources, begun.missing),
        )

    def _taken(self, begun: Begun) -> SnapshotInfo | None:
        journal, writer, request = begun.journal, begun.writer, begun.request
        top = journal.root()
        tip = self._tip or writer.tip()
        previous = last_taken(journal, tip, self._store, self._keys, self._record)
        seen = begun.vigil.judge()
        is_same = previous is not None and top.root == previous.root
        if previous is not None and is_same and not (request.force or seen.signs):
            begun.vigil.nothing_taken()
            self._note(journal, previous)
            return None
        snapshot = Snapshot(
            vault=self._keys.vault,
            host=self._keys.host(),
            sequence=tip.sequence + 1,
            previous=tip.id,
            root=top.root or b"",
            started_ns=begun.started_ns,
            taken_ns=self._clock.now_ns(),
            files=top.files,
            bytes=top.bytes,
            added_bytes=writer.added_bytes,
            trigger=request.trigger,
            incomplete=incomplete(journal, self._sources, begun.missing),
            changes=seen.changes,
            signs=seen.signs,
        )
        info = writer.commit(snapshot)
        self._tip = Tip(snapshot.sequence, info.id)
        self._record(info)  # before the note, which is what says that this was done
        begun.vigil.taken(snapshot.taken_ns)
        self._note(journal, Previous(self._tip, snapshot.root, snapshot.taken_ns))
        return info

    def _note(self, journal: Journal, last: Previous) -> None:
        note(journal, last)
        self._last_taken_ns = last.taken_ns

    def end(self, begun: Begun) -> None:
        """Let go of what `begin` opened."""
        begun.scan.close()
        if self._journal is not None:
            self._journal.on_commit = None
        for ready in begun.ready:
            ready.open.close()

    def abandon(self) -> None:
        """Forget what is not durable; the next run adopts what was put."""
        self._tip = None
        self._unscanned = {source.path for source in self._sources}
        if self._journal is not None and not self._journal.damaged:
            self._journal.rollback()

    def mend(self, error: JournalError) -> None:
        """Begin a damaged journal anew, so that a run can be; raise `error` where it is not."""
        if self._journal is None or not self._journal.damaged:
            raise error
        self._journal.rebuild()
        self._unscanned = {source.path for source in self._sources}
