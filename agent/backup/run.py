"""One run: from what may have changed to a snapshot, or to the knowledge that nothing did.

Order (docs/format.md 7): packs, their index, the journal that names them, the snapshot, the audit
record.  Whatever breaks in between, the journal is as it was at the last checkpoint, packs that
were put and not indexed are adopted by the next run, and nothing is stored twice.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from agent.backup.batch import Batch
from agent.backup.canaries import Canaries
from agent.backup.journal import Journal
from agent.backup.pages import Pages
from agent.backup.pipeline import Counts, Pipeline
from agent.backup.previous import (
    Previous,
    forget,
    is_behind,
    is_old,
    note,
    noted,
)
from agent.backup.relied import heed_prune
from agent.backup.request import Outcome, Request
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
from agent.backup.trees import Trees
from agent.backup.vigil import Vigil
from agent.clock import Clock
from agent.crypto.secrets import WriterKeys
from agent.errors import JournalError, SourceUnavailable, VitrineError
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.chain import decode_snapshot
from agent.repository.indexcache import IndexCache
from agent.repository.writer import Tip, VaultWriter
from agent.store.base import Store

log = logging.getLogger(__name__)

Record = Callable[[SnapshotInfo], None]
"""Writes the audit record of a snapshot; blocks."""


class _Prepared(NamedTuple):
    journal: Journal
    pages: Pages
    writer: VaultWriter
    labels: Mapping[int, bytes]
    ready: list[ReadySource]
    missing: dict[bytes, str]
    vigil: Vigil
    started_ns: int


class VaultBackup:
    """Takes snapshots of one vault's sources, one run at a time."""

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

    async def run(
        self, request: Request, on_progress: Callable[[Counts], None] = lambda _: None
    ) -> Outcome:
        """Look, store what is new, and take a snapshot if anything changed or `request` wants one.

        Raises what stopped it; the state is then that of the last checkpoint.  Cancelling waits
        for at most one batch.
        """
        try:
            return await self._run(request, on_progress)
        except JournalError:
            if self._journal is None or not self._journal.damaged:
                raise
            await trio.to_thread.run_sync(self._journal.rebuild)
            self._unscanned = {source.path for source in self._sources}
            return await self._run(request, on_progress)

    async def _run(self, request: Request, on_progress: Callable[[Counts], None]) -> Outcome:
        began = self._clock.monotonic()
        prepared = pipeline = None
        try:
            prepared = await trio.to_thread.run_sync(self._prepare, request.reread)
            pipeline = Pipeline(
                prepared.writer, prepared.journal, prepared.pages, self._clock, on_progress
            )
            await pipeline.run(self._batches(prepared, request))
            put = pipeline.sink.page
            trees = Trees(prepared.journal, prepared.pages, put, prepared.labels).rebuild()
            while await pipeline.step(trees):
                await pipeline.checkpoint_if_due()
            taken = await trio.to_thread.run_sync(self._conclude, prepared, pipeline, request)
            return self._outcome(prepared, pipeline, taken, self._clock.monotonic() - began)
        except BaseException as error:
            if pipeline is not None:
                pipeline.sink.drop()  # what is open takes room that the next try may need
            self._abandon()
            if isinstance(error, ExceptionGroup):
                raise _cause(error) from error
            raise
        finally:
            if self._journal is not None:
                self._journal.on_commit = None
            for ready in prepared.ready if prepared else ():
                ready.open.close()

    # -- before ---------------------------------------------------------------------------------

    def _prepare(self, reread: bool) -> _Prepared:
        started_ns = self._clock.now_ns()
        writer = VaultWriter(self._store, self._keys, self._cache)
        if reread:
            self._tip = None
        journal = self._opened_journal(writer, reread=reread)
        pages = Pages(journal)
        labels = synchronise(journal, pages, self._sources)
        ready: list[ReadySource] = []
        missing: dict[bytes, str] = {}
        for source in self._sources:
            try:
                ready.append(make_ready(journal, pages, source))
            except SourceUnavailable as error:
                missing[source.path] = error.message
        if not ready and not any(journal.directory(number, b"") for number in labels):
            raise SourceUnavailable(
                "no source of this vault can be opened",
                hint="check that the sources exist and that the agent may read them",
            )
        vigil = self._watching(journal, pages, ready, started_ns)
        return _Prepared(journal, pages, writer, labels, ready, missing, vigil, started_ns)

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

    def _batches(self, prepared: _Prepared, request: Request) -> Iterator[Batch]:
        """Scan every source that is there, one after the other."""
        for ready in prepared.ready:
            path = ready.source.path
            scan = Scan(
                prepared.journal, prepared.pages, ready.open, ready.root, ready.source.patterns
            )
            names = request.dirty.get(path, {})
            if request.full or path in self._unscanned or names is None:
                yield from scan.full()
                self._unscanned.discard(path)
            elif names:
                yield from scan.dirty(names)
        self._unscanned |= prepared.missing.keys()

    # -- after ----------------------------------------------------------------------------------

    def _conclude(
        self, prepared: _Prepared, pipeline: Pipeline, request: Request
    ) -> SnapshotInfo | None:
        """Make everything durable, and commit a snapshot where there is something to tell."""
        journal, writer = prepared.journal, prepared.writer
        pipeline.make_durable()
        top = journal.root()
        tip = self._tip or writer.tip()
        previous = self._previous(journal, tip)
        seen = prepared.vigil.judge()
        is_same = previous is not None and top.root == previous.root
        if previous is not None and is_same and not (request.force or seen.signs):
            prepared.vigil.nothing_taken()
            self._note(journal, previous)
            return None
        snapshot = Snapshot(
            vault=self._keys.vault,
            host=self._keys.host(),
            sequence=tip.sequence + 1,
            previous=tip.id,
            root=top.root or b"",
            started_ns=prepared.started_ns,
            taken_ns=self._clock.now_ns(),
            files=top.files,
            bytes=top.bytes,
            added_bytes=writer.added_bytes,
            trigger=request.trigger,
            incomplete=incomplete(prepared.journal, self._sources, prepared.missing),
            changes=seen.changes,
            signs=seen.signs,
        )
        info = writer.commit(snapshot)
        self._tip = Tip(snapshot.sequence, info.id)
        self._record(info)  # before the note, which is what says that this was done
        prepared.vigil.taken(snapshot.taken_ns)
        self._note(journal, Previous(self._tip, snapshot.root, snapshot.taken_ns))
        return info

    def _note(self, journal: Journal, last: Previous) -> None:
        note(journal, last)
        self._last_taken_ns = last.taken_ns

    def _previous(self, journal: Journal, tip: Tip) -> Previous | None:
        """Return what this host's last snapshot was, or None before the first.

        One that was stored without our hearing of it is recorded now.
        """
        if not tip.sequence:
            return None
        before = noted(journal)
        if before is not None and before.tip == tip:
            return before
        vault, host = self._keys.vault, self._keys.host()
        data = self._store.get(layout.snapshot(vault, host, tip.sequence))
        verify = self._keys.signer().verify_key()
        info = decode_snapshot(data, self._keys.index(), verify, vault, host, tip.sequence)
        # Behind by more than one is a journal that was lost: those had been recorded.
        if (before.tip.sequence if before else 0) == tip.sequence - 1:
            self._record(info)
        return Previous(tip, info.snapshot.root, info.snapshot.taken_ns)

    def _outcome(
        self, prepared: _Prepared, pipeline: Pipeline, taken: SnapshotInfo | None, seconds: float
    ) -> Outcome:
        tip = self._tip or Tip(0, b"")
        added = prepared.writer.added_bytes
        sources = outcomes(prepared.journal, self._sources, prepared.missing)
        return Outcome(taken, tip, self._last_taken_ns, pipeline.counts, added, seconds, sources)

    def _abandon(self) -> None:
        """Forget what is not durable; the next run adopts what was put."""
        self._tip = None
        self._unscanned = {source.path for source in self._sources}
        if self._journal is not None and not self._journal.damaged:
            self._journal.rollback()


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """Return what broke a run: one of our errors, if there is one among several."""
    leaves = [
        _cause(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions
    ]
    return next((leaf for leaf in leaves if isinstance(leaf, VitrineError)), leaves[0])
