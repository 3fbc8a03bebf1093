"""One run of retention over one vault: decide, stop if in doubt, record, delete."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.crypto.secrets import ReaderKeys, VaultSecrets
from agent.crypto.signing import SigningKey
from agent.maintenance.elapsed import boot_elapsed_ns, note_clocks, wall_elapsed_ns
from agent.maintenance.retention.freeze import Circumstances, FreezeFile, why_freeze
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
    removed: int  # 0 with a dry run
    frozen: str  # why nothing may be removed; empty where it may
    finished: int  # objects of removals that an earlier run had not deleted

    @property
    def to_remove(self) -> list[Fate]:
        """The snapshots that no rule keeps."""
        return [fate for fate in self.fates if not fate.keep]


@dataclass(frozen=True, slots=True)
class StateFiles:
    """Where retention of one vault remembers."""

    received: Path
    holds: Path
    frozen: Path
    clocks: Path
    acknowledged: Path

    @classmethod
    def of(cls, directory: Path, vault: str) -> "StateFiles":
        """Return the files of a vault below the state directory."""
        return cls(*(directory / f"{what}-{vault}" for what in (
            "received", "holds", "frozen", "clocks", "acknowledged"
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
        clean = last_clean(snapshots, self._acknowledged())
        fates = decide(
            (_candidate(info, times) for info in snapshots),
            self.rules,
            now_ns=now,
            zone=self.zone,
            held=held,
            pinned={info.id for info in clean},
        )
        reason = self._frozen(snapshots, fates, received, holds, confirmed)
        return RetentionReport(self.keys.name, tuple(fates), 0, reason, 0)

    def apply(
        self, snapshots: Sequence[SnapshotInfo], secrets: VaultSecrets, *, confirmed: int = 0
    ) -> RetentionReport:
        """Remove what no rule keeps, unless something is suspicious: then freeze, and say why."""
        report = self.plan(snapshots, confirmed=confirmed)
        removals = read_removals(self.store, self.keys)
        finished = self._finish(removals)
        note_clocks(self.files.clocks, self.clock)
        if report.frozen:
            self._freeze(report.frozen)
            return msgspec.structs.replace(report, finished=finished)
        doomed = {fate.candidate.id for fate in report.to_remove}
        gone = [info for info in snapshots if info.id in doomed]
        for start in range(0, len(gone), MAX_REMOVED):
            removals = self._remove(gone[start : start + MAX_REMOVED], removals, secrets)
        return msgspec.structs.replace(report, removed=len(gone), finished=finished)

    def _frozen(
        self, snapshots: Sequence[SnapshotInfo], fates: Sequence[Fate], received: ReceivedTimes,
        holds: Sequence[Hold], confirmed: int,
    ) -> str:  # fmt: skip
        frozen = FreezeFile(self.files.frozen).read()
        missing = self._missing_holds(holds)
        if frozen is not None:
            return frozen.reason
        return why_freeze(
            Circumstances(
                now_ns=self.clock.now_ns(),
                newest_received_ns=received.newest_ns,
                wall_elapsed_ns=wall_elapsed_ns(self.files.clocks, self.clock),
                boot_elapsed_ns=boot_elapsed_ns(self.files.clocks, self.clock),
                snapshots=len(snapshots),
                to_remove=sum(not fate.keep for fate in fates),
                confirmed=confirmed,
                missing_holds=missing,
                alarms=len(unacknowledged(snapshots, self._acknowledged())),
            )
        )

    def _freeze(self, reason: str) -> None:
        file = FreezeFile(self.files.frozen)
        if file.read() is None:
            self.record("frozen", {"reason": reason})
            file.freeze(reason, self.clock.now_ns())

    def _missing_holds(self, holds: Sequence[Hold]) -> int:
        """Return how many holds that were seen are gone without a release; remember the others."""
        known = self._known_holds()
        present = {hold.name for hold in holds}
        missing = known - present - released_names(self.store, self.keys.vault)
        self.files.holds.write_bytes(msgspec.msgpack.encode(sorted(present | missing)))
        return len(missing)

    def _known_holds(self) -> set[bytes]:
        try:
            return set(msgspec.msgpack.decode(self.files.holds.read_bytes(), type=list[bytes]))
        except FileNotFoundError:
            return set()

    def thaw(self, snapshots: Sequence[SnapshotInfo], reason: str, by: str) -> str:
        """Undo a freeze, on the record; return what it was for.  Signs count as looked at.

        Raises ConfigInvalid where nothing is frozen.
        """
        frozen = FreezeFile(self.files.frozen)
        before = frozen.read()
        self.record("thawed", {"was": before.reason if before else "", "why": reason, "by": by})
        known = self._acknowledged() | {info.id for info in snapshots if info.snapshot.signs}
        self.files.acknowledged.write_bytes(msgspec.msgpack.encode(sorted(known)))
        self.files.holds.unlink(missing_ok=True)
        note_clocks(self.files.clocks, self.clock)
        return frozen.thaw().reason

    def _acknowledged(self) -> set[SnapshotId]:
        try:
            data = self.files.acknowledged.read_bytes()
        except FileNotFoundError:
            return set()
        return {SnapshotId(id_) for id_ in msgspec.msgpack.decode(data, type=list[bytes])}

    def _finish(self, removals: Removals) -> int:
        """Delete what a record names and an interrupted run had left."""
        finished = 0
        for listed in list(self.store.list(layout.snapshots(self.keys.vault))):
            if layout.snapshot_place(listed.name) in removals.removed:
                self.store.delete(listed.name)
                finished += 1
        return finished

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
