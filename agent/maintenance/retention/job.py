"""One run of retention over one vault: decide, stop if in doubt, record, delete."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.crypto.secrets import ReaderKeys, VaultSecrets
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid
from agent.maintenance.elapsed import boot_elapsed_ns, note_clocks, wall_elapsed_ns
from agent.maintenance.retention.freeze import Circumstances, FreezeFile, Frozen, why_freeze
from agent.maintenance.retention.notes import Notes, NotesFile
from agent.maintenance.retention.policy import Candidate, Fate, Rules, decide
from agent.maintenance.retention.received import ReceivedTimes
from agent.model.ids import SnapshotId
from agent.model.snapshot import SnapshotInfo
from agent.repository import layout
from agent.repository.holds import Hold, held_by, read_holds, released_names
from agent.repository.removals import (
    MAX_REMOVED,
    RemovalRecord,
    Removals,
    Removed,
    encode_record,
    read_removals,
)
from agent.repository.signs import last_clean, unacknowledged
from agent.store.base import Store


class RetentionReport(msgspec.Struct, frozen=True):
    """What a run decided, and did."""

    vault: str
    fates: tuple[Fate, ...]
    why: Frozen | None  # nothing may be removed; None where it may
    removed: int = 0  # 0 with a dry run
    finished: int = 0  # objects of removals that an earlier run had not deleted

    @property
    def frozen(self) -> str:
        """Why nothing may be removed; empty where it may."""
        return self.why.reason if self.why else ""

    @property
    def to_remove(self) -> list[Fate]:
        """The snapshots that no rule keeps."""
        return [fate for fate in self.fates if not fate.keep]


@dataclass(frozen=True, slots=True)
class StateFiles:
    """Where retention of one vault remembers."""

    received: Path
    notes: Path
    frozen: Path
    clocks: Path

    @classmethod
    def of(cls, directory: Path, vault: str) -> "StateFiles":
        """Return the files of a vault below the state directory."""
        return cls(*(directory / f"{what}-{vault}" for what in (
            "received", "notes", "frozen", "clocks"
        )))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of one vault."""

    store: Store
    clock: Clock
    keys: ReaderKeys
    rules: Rules
    zone: tzinfo | None
    files: StateFiles
    record: Callable[[str, Mapping[str, int | str]], None]
    """Writes an audit record, durably: what has happened, and counts."""

    def plan(self, snapshots: Sequence[SnapshotInfo], *, confirmed: int = 0) -> RetentionReport:
        """Return what `snapshots`, which are all that live, come to; nothing is removed."""
        now = self.clock.now_ns()
        received = ReceivedTimes(self.files.received)
        times = received.update(snapshots, now)
        holds = read_holds(self.store, self.keys)
        held = {info.id: why for info in snapshots if (why := held_by(holds, info.id, now))}
        clean = last_clean(snapshots, _ids(self._notes().acknowledged))
        fates = decide(
            (_candidate(info, times) for info in snapshots),
            self.rules,
            now_ns=now,
            zone=self.zone,
            held=held,
            pinned={info.id for info in clean},
        )
        frozen = self._why_frozen(snapshots, fates, received, holds, confirmed)
        return RetentionReport(self.keys.name, tuple(fates), frozen)

    def apply(
        self, snapshots: Sequence[SnapshotInfo], secrets: VaultSecrets, *, confirmed: int = 0
    ) -> RetentionReport:
        """Remove what no rule keeps, unless something is suspicious: then freeze, and say why."""
        report = self.plan(snapshots, confirmed=confirmed)
        removals = read_removals(self.store, self.keys)
        finished = self._finish(removals)
        if report.why is not None:
            self._freeze(report.why)
        # not before a freeze is on disk, or a jump that was seen once is forgotten by a crash
        note_clocks(self.files.clocks, self.clock)
        if report.frozen:
            return msgspec.structs.replace(report, finished=finished)
        doomed = {fate.candidate.id for fate in report.to_remove}
        gone = [info for info in snapshots if info.id in doomed]
        for start in range(0, len(gone), MAX_REMOVED):
            removals = self._remove(gone[start : start + MAX_REMOVED], removals, secrets)
        return msgspec.structs.replace(report, removed=len(gone), finished=finished)

    def _why_frozen(
        self, snapshots: Sequence[SnapshotInfo], fates: Sequence[Fate], received: ReceivedTimes,
        holds: Sequence[Hold], confirmed: int,
    ) -> Frozen | None:  # fmt: skip
        missing = self._missing_holds(holds)
        frozen = FreezeFile(self.files.frozen).read()
        if frozen is not None:
            return frozen
        notes = self._notes()
        alarms = unacknowledged(snapshots, _ids(notes.acknowledged))
        return why_freeze(
            Circumstances(
                now_ns=self.clock.now_ns(),
                newest_received_ns=received.newest_ns,
                thawed_ns=notes.thawed_ns,
                wall_elapsed_ns=wall_elapsed_ns(self.files.clocks, self.clock),
                boot_elapsed_ns=boot_elapsed_ns(self.files.clocks, self.clock),
                snapshots=len(snapshots),
                to_remove=sum(not fate.keep for fate in fates),
                confirmed=confirmed,
                missing_holds=tuple(sorted(missing)),
                alarms=tuple(info.id for info in alarms),
            )
        )

    def _freeze(self, why: Frozen) -> None:
        file = FreezeFile(self.files.frozen)
        if file.read() is None:
            self.record("frozen", {"reason": why.reason})
            file.freeze(why)

    def _missing_holds(self, holds: Sequence[Hold]) -> frozenset[bytes]:
        """Return which holds that were seen are gone without a release; remember the others."""
        notes = self._notes()
        present = {hold.name for hold in holds}
        missing = notes.holds - present - released_names(self.store, self.keys.vault)
        if notes.holds != present | missing:
            known = msgspec.structs.replace(notes, holds=missing | present)
            NotesFile(self.files.notes).save(known)
        return missing

    def thaw(self, snapshots: Sequence[SnapshotInfo], reason: str, by: str) -> str:
        """Undo a freeze, or what the next run would stop for, on the record; return what it was.

        The signs and lost holds that it was for count as known, and no others: what came later
        freezes again.  Raises ConfigInvalid, and changes nothing, where nothing is frozen.
        """
        why = self.plan(snapshots).why
        if why is None:
            raise ConfigInvalid("retention of this vault is not frozen")
        self.record("thawed", {"was": why.reason, "why": reason, "by": by})
        notes = self._notes()
        NotesFile(self.files.notes).save(
            Notes(
                holds=notes.holds.difference(why.holds),
                acknowledged=notes.acknowledged.union(why.signs),
                thawed_ns=self.clock.now_ns(),
            )
        )
        note_clocks(self.files.clocks, self.clock)
        FreezeFile(self.files.frozen).thaw()
        return why.reason

    def _notes(self) -> Notes:
        return NotesFile(self.files.notes).read()

    def _finish(self, removals: Removals) -> int:
        """Delete, on the record, what a removal names and an interrupted run had left."""
        listed = self.store.list(layout.snapshots(self.keys.vault))
        left = [o.name for o in listed if layout.snapshot_place(o.name) in removals.removed]
        if left:  # the run may have ended before its own audit record
            self.record("removed", {"finished": len(left), "newest": len(removals.ids)})
        for name in left:
            self.store.delete(name)
        return len(left)

    def _remove(
        self, gone: Sequence[SnapshotInfo], removals: Removals, secrets: VaultSecrets
    ) -> Removals:
        """Record the removal of some snapshots, then delete them; return all removals."""
        vault = self.keys.vault
        removed = tuple(
            Removed(i.snapshot.host, i.snapshot.sequence, i.id, i.snapshot.previous) for i in gone
        )
        number = len(removals.ids) + 1
        record = RemovalRecord(vault, number, removals.tip, self.clock.now_ns(), removed)
        data = encode_record(record, self.keys.index(), SigningKey(secrets.authority))
        self.store.put(layout.removal(vault, number), [data])
        self.record("removed", {"number": number, "snapshots": len(removed)})
        for one in removed:
            self.store.delete(layout.snapshot(vault, one.host, one.sequence))
        return read_removals(self.store, self.keys)


def _candidate(info: SnapshotInfo, times: Mapping[SnapshotId, int]) -> Candidate:
    snapshot = info.snapshot
    return Candidate(
        info.id, snapshot.host, snapshot.sequence, times[info.id], not snapshot.incomplete
    )


def _ids(names: Collection[bytes]) -> frozenset[SnapshotId]:
    return frozenset(map(SnapshotId, names))
