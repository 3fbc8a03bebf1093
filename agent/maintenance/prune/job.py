"""One run of pruning one vault: mark, rewrite, decide, look again, record, delete.

Whatever stops it in between, the next run goes on from the record; nothing is deleted before the
record and the audit say so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.clock import Clock
from agent.crypto.secrets import ReaderKeys, VaultSecrets
from agent.crypto.signing import SigningKey
from agent.errors import ObjectDamaged, ObjectMissing
from agent.maintenance.prune.fates import Fates, Waits, decide
from agent.maintenance.prune.marks import Marks
from agent.maintenance.prune.report import PruneReport, waiting
from agent.maintenance.prune.rewrite import Rewriter
from agent.maintenance.prune.sweep import Sweeper
from agent.maintenance.prune.walk import mark_all
from agent.maintenance.prune.waste import Found, Limits, Waste, leaving_by, waste_of
from agent.model.ids import PackId
from agent.model.snapshot import SnapshotInfo
from agent.repository import layout
from agent.repository.condemned import (
    PackRecord,
    encode_record,
    last_genuine,
    record_numbers,
)
from agent.repository.frames import FrameReader
from agent.repository.index import Index
from agent.repository.indexcache import IndexCache
from agent.repository.packtable import read_header
from agent.repository.reader import VaultReader
from agent.store.base import Store

Progress = Callable[[str, int, int], None]
"""Hears of (what is done, how much, of how much)."""


@dataclass(frozen=True, slots=True)
class Prune:
    """Prunes one vault."""

    store: Store
    clock: Clock
    keys: ReaderKeys
    secrets: VaultSecrets
    frames: FrameReader
    cache: IndexCache
    spend_time: Callable[[], None]
    """Notes, before a record counts it, that the time until now has passed: a run that fails, and
    is tried again at once, would else count it again and again."""
    record: Callable[[Mapping[str, int]], None]
    """Writes the audit record, durably, before anything is deleted."""

    def run(
        self, snapshots: Sequence[SnapshotInfo], elapsed_ns: int, limits: Limits,
        on_progress: Progress, *, dry_run: bool,
    ) -> PruneReport:  # fmt: skip
        """Prune what `snapshots`, which are all, do not need; they were read just before.

        Raises ObjectMissing or ObjectDamaged where what they need cannot be read: nothing is then
        deleted.  `elapsed_ns` is the time since the last run, as far as it is believed.
        """
        found = self._look(snapshots, on_progress)
        before = last_genuine(
            self.store, self.keys.vault, self.keys.index(), self.keys.authority_key()
        )
        waste = waste_of(found, before, limits)
        written = 0
        if not dry_run and waste.thin:
            written, waste = self._rewrite(found, before, waste, on_progress)
        sweeper = Sweeper(self.store, self.keys.vault, self.keys.index(), found.reader, found.marks)
        fates, kept = self._decide(found, before, waste, elapsed_ns, limits.waits, sweeper)
        dropped = 0
        if not dry_run and _is_news(before, fates):
            dropped = self._carry_out(fates, sweeper, found.present, on_progress)
        return self._report(found, waste, fates, limits.waits, len(kept), written, dropped)

    def _look(self, snapshots: Sequence[SnapshotInfo], on_progress: Progress) -> Found:
        """Read the index and every page that the snapshots need."""
        index = self.cache.refresh()  # after the snapshots: it lists all that they need
        reader = VaultReader(self.frames, index, self.keys.ids())
        present, missing = self._packs(index)
        marks = Marks(index, present)
        mark_all(reader, snapshots, marks, lambda n, of: on_progress("snapshots", n, of))
        return Found(index, reader, present, missing, marks)

    def _rewrite(
        self, found: Found, before: PackRecord, waste: Waste, on_progress: Progress
    ) -> tuple[int, Waste]:
        """Rewrite thin packs; return the bytes written, and what is waste then."""
        leaving = leaving_by(before)
        rewriter = Rewriter(self.store, self.secrets, found.reader, self.cache, found.marks)
        written = rewriter.rewrite(waste.thin, leaving, lambda n: on_progress("rewritten", n, 0))
        # what another pack holds is not copied, so that pack is needed for it from now on
        used = found.marks.used_bytes(leaving.union(waste.thin))
        unreferenced = {pack for pack in found.present if not used[pack]}.union(waste.thin)
        return written, waste._replace(unreferenced=unreferenced)

    def _decide(
        self, found: Found, before: PackRecord, waste: Waste, elapsed_ns: int, waits: Waits,
        sweeper: Sweeper,
    ) -> tuple[Fates, set[PackId]]:  # fmt: skip
        """Decide, and decide again without what the last look at packs' own tables keeps."""

        def decided(kept: set[PackId]) -> Fates:
            return decide(
                before, waste.unreferenced - kept, found.missing,
                now_ns=self.clock.now_ns(), elapsed_ns=elapsed_ns, waits=waits,
            )  # fmt: skip

        fates = decided(set())
        kept = sweeper.still_needed(found.listed, fates.sweep)
        return (decided(kept) if kept else fates), kept

    def _report(
        self, found: Found, waste: Waste, fates: Fates, waits: Waits, kept: int, written: int,
        dropped: int,
    ) -> PruneReport:  # fmt: skip
        present = found.present
        unused = sum(present[pack] * (1 - part) for pack, part in waste.share.items())
        ahead = waiting(fates.record, present, waits)
        return PruneReport(
            vault=self.keys.name,
            packs=len(present),
            bytes=sum(present.values()),
            unused_bytes=round(unused),
            noted=len(fates.record.unreferenced),
            noted_bytes=ahead.noted_bytes,
            next_condemned_days=ahead.next_condemned_days,
            condemned=len(fates.record.condemned),
            condemned_bytes=ahead.condemned_bytes,
            next_deleted_days=ahead.next_deleted_days,
            swept=len(present.keys() & set(fates.sweep)),
            swept_bytes=sum(present.get(pack, 0) for pack in fates.sweep),
            kept=kept,
            rewritten=len(waste.thin),
            rewritten_bytes=written,
            dropped_indexes=dropped,
        )

    def _packs(self, index: Index) -> tuple[dict[PackId, int], set[PackId]]:
        """Return this vault's packs that are there, indexed or not, with sizes; and those missing.

        Packs are listed after the index was read, which names none before it is there.  One that
        it names and that is gone was deleted while a run still went by an index of before.
        """
        indexed = {row.id for file in index.files for row in file.packs()}
        found: dict[PackId, int] = {}
        for listed in self.store.list(layout.PACKS):
            pack = layout.pack_id(listed.name)
            if pack is not None and (pack in indexed or self._is_ours(pack)):
                found[pack] = listed.size
        return found, indexed - found.keys()

    def _is_ours(self, pack: PackId) -> bool:
        try:
            return read_header(self.store, pack)[0].vault == self.keys.vault
        except (ObjectDamaged, ObjectMissing):
            return False  # whoever's it is: `vitrine repair` looks after damage

    def _carry_out(
        self, fates: Fates, sweeper: Sweeper, present: Mapping[PackId, int], on_progress: Progress
    ) -> int:
        """Record, then delete; return how many index objects went."""
        record = fates.record
        self.spend_time()
        data = encode_record(record, self.keys.index(), SigningKey(self.secrets.authority))
        self.store.put(layout.pack_record(self.keys.vault, record.number), [data])
        self.record(
            {
                "number": record.number,
                "noted": len(record.unreferenced),
                "condemned": len(record.condemned),
                "swept": len(fates.sweep),
                "swept_bytes": sum(present.get(pack, 0) for pack in fates.sweep),
            }
        )
        done = 0

        def swept(count: int) -> None:
            nonlocal done
            done += count
            on_progress("packs deleted", done, len(fates.sweep))

        sweeper.sweep(self.cache, fates.sweep, swept)
        left = set(present).difference(fates.sweep)
        dropped = sweeper.drop_superseded(self.cache.refresh(), left)
        for number in record_numbers(self.store, self.keys.vault):
            if number != record.number:  # older, damaged or forged
                self.store.delete(layout.pack_record(self.keys.vault, number))
        return dropped


def _is_news(before: PackRecord, fates: Fates) -> bool:
    """Tell whether there is anything to write down: a vault without waste needs no record."""
    after = fates.record
    listed = (after.unreferenced, after.condemned, after.swept)
    return any(listed) or bool(before.number)
