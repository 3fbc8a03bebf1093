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

import msgspec
import trio

from agent.backup.journal import Journal
from agent.backup.pages import Pages
from agent.backup.pipeline import Counts, Pipeline
from agent.backup.scan import Batch, DirtyNames, Scan
from agent.backup.sources import ReadySource, Source, make_ready, synchronise
from agent.backup.trees import Trees
from agent.clock import Clock
from agent.crypto.naming import object_name
from agent.crypto.secrets import WriterKeys
from agent.errors import JournalError, SourceUnavailable, VitrineError
from agent.model.snapshot import Snapshot, SnapshotInfo, SourceState, Trigger
from agent.repository import layout
from agent.repository.chain import decode_snapshot
from agent.repository.condemned import LEASE_S
from agent.repository.indexcache import IndexCache
from agent.repository.writer import Tip, VaultWriter
from agent.store.base import Store

log = logging.getLogger(__name__)

Record = Callable[[SnapshotInfo], None]
"""Writes the audit record of a snapshot; blocks."""


class Request(NamedTuple):
    """What a run is to look at, and why."""

    trigger: Trigger = Trigger.REQUEST
    full: bool = True
    # source path → what may have changed, None for all of it; sources not named have not changed
    dirty: Mapping[bytes, DirtyNames | None] = {}
    force: bool = False  # a snapshot even if nothing changed


class SourceOutcome(NamedTuple):
    """How a source stands after a run."""

    files: int
    bytes: int
    missing: bool
    changed_while_read: int
    unreadable: int
    problem: str


class Outcome(NamedTuple):
    """What a run came to; `taken` is None where nothing had changed."""

    taken: SnapshotInfo | None
    last: Tip
    last_taken_ns: int  # 0: no snapshot yet
    counts: Counts
    added_bytes: int
    seconds: float
    sources: Mapping[bytes, SourceOutcome]


class _Prepared(NamedTuple):
    journal: Journal
    pages: Pages
    writer: VaultWriter
    labels: Mapping[int, bytes]
    ready: list[ReadySource]
    missing: dict[bytes, str]
    started_ns: int
    began: float  # monotonic, before index and record were read


class _Previous(NamedTuple):
    """The last snapshot, as the journal notes it."""

    tip: Tip
    root: bytes
    taken_ns: int


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
    ) -> None:
        """Take the sources, and the directory `state` that this vault's agent alone uses."""
        self._store = store
        self._keys = keys
        self._sources = tuple(sources)
        self._state = state
        self._clock = clock
        self._record = record
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
        prepared = None
        try:
            prepared = await trio.to_thread.run_sync(self._prepare)
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
            self._abandon()
            if isinstance(error, ExceptionGroup):
                raise _cause(error) from error
            raise
        finally:
            for ready in prepared.ready if prepared else ():
                ready.open.close()

    # -- before ---------------------------------------------------------------------------------

    def _prepare(self) -> _Prepared:
        started_ns, began = self._clock.now_ns(), self._clock.monotonic()
        writer = VaultWriter(self._store, self._keys, self._cache)
        journal = self._opened_journal(writer)
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
        return _Prepared(journal, pages, writer, labels, ready, missing, started_ns, began)

    def _opened_journal(self, writer: VaultWriter) -> Journal:
        """Return the journal, once it is known to speak of this repository as it is."""
        if self._journal is None:
            self._tip = None
            identity = self._keys.vault + self._keys.host()
            self._journal = Journal(os.fspath(self._state / "journal.sqlite"), identity)
        journal = self._journal
        if self._tip is None:
            self._tip = writer.tip()
            if _is_behind(self._tip, journal):
                journal.rebuild("speaks of a later state of the repository")
            if not journal.fact("clean"):
                _heed_prune(journal, writer)
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
        if previous is not None and top.root == previous.root and not request.force:
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
            incomplete=self._incomplete(prepared),
        )
        if self._clock.monotonic() - prepared.began > LEASE_S:
            writer.renew()
        info = writer.commit(snapshot)
        self._tip = Tip(snapshot.sequence, info.id)
        self._record(info)  # before the note, which is what says that this was done
        self._note(journal, _Previous(self._tip, snapshot.root, snapshot.taken_ns))
        return info

    def _note(self, journal: Journal, last: "_Previous") -> None:
        facts = {"last": msgspec.msgpack.encode(last), "clean": b"1"}
        for key, value in facts.items():
            if journal.fact(key) != value:
                journal.note(key, value)
        journal.commit()
        self._last_taken_ns = last.taken_ns

    def _previous(self, journal: Journal, tip: Tip) -> "_Previous | None":
        """Return what this host's last snapshot was, or None before the first.

        One that was stored without our hearing of it is recorded now.
        """
        if not tip.sequence:
            return None
        noted = _noted(journal)
        if noted is not None and noted.tip == tip:
            return noted
        vault, host = self._keys.vault, self._keys.host()
        data = self._store.get(layout.snapshot(vault, host, tip.sequence))
        verify = self._keys.signer().verify_key()
        info = decode_snapshot(data, self._keys.index(), verify, vault, host, tip.sequence)
        # Behind by more than one is a journal that was lost: those had been recorded.
        if (noted.tip.sequence if noted else 0) == tip.sequence - 1:
            self._record(info)
        return _Previous(tip, info.snapshot.root, info.snapshot.taken_ns)

    def _incomplete(self, prepared: _Prepared) -> tuple[SourceState, ...]:
        states = []
        for source in self._sources:
            changed, unreadable = prepared.journal.flawed(prepared.journal.source(source.path))
            missing = source.path in prepared.missing
            if changed or unreadable or missing:
                digest = object_name(source.label).hex()[:16]
                states.append(SourceState(digest, changed, unreadable, missing))
        return tuple(states)

    def _outcome(
        self, prepared: _Prepared, pipeline: Pipeline, taken: SnapshotInfo | None, seconds: float
    ) -> Outcome:
        outcomes = {}
        for source in self._sources:
            number = prepared.journal.source(source.path)
            directory = prepared.journal.directory(number, b"")
            problem = prepared.missing.get(source.path, "")
            outcomes[source.path] = SourceOutcome(
                directory.files if directory else 0,
                directory.bytes if directory else 0,
                source.path in prepared.missing,
                *prepared.journal.flawed(number),
                problem,
            )
        tip = self._tip or Tip(0, b"")
        added = prepared.writer.added_bytes
        return Outcome(taken, tip, self._last_taken_ns, pipeline.counts, added, seconds, outcomes)

    def _abandon(self) -> None:
        """Forget what is not durable; the next run adopts what was put."""
        self._tip = None
        self._unscanned = {source.path for source in self._sources}
        if self._journal is not None and not self._journal.damaged:
            self._journal.rollback()


def _noted(journal: Journal) -> _Previous | None:
    fact = journal.fact("last")
    return msgspec.msgpack.decode(fact, type=_Previous) if fact else None


def _heed_prune(journal: Journal, writer: VaultWriter) -> None:
    """Have a journal rebuilt that may name chunks which prune has condemned since.

    Only one of an interrupted run can: a clean one names what the last snapshot needs, and that is
    never removed.
    """
    noted = journal.fact("packs")
    if noted and writer.condemned_since(int(noted)):
        journal.rebuild("speaks of packs that may have been deleted since")
    journal.note("packs", b"%d" % writer.packs_record)


def _is_behind(tip: Tip, journal: Journal) -> bool:
    """Tell whether the repository lacks what the journal takes for stored: it was put back."""
    noted = _noted(journal)
    if noted is None:
        return False
    if tip.sequence == noted.tip.sequence:
        return tip.id != noted.tip.id
    return tip.sequence < noted.tip.sequence


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """Return what broke a run: one of our errors, if there is one among several."""
    leaves = [
        _cause(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions
    ]
    return next((leaf for leaf in leaves if isinstance(leaf, VitrineError)), leaves[0])
