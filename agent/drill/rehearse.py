"""One drill: restore to a scratch place, compare, look at it from outside, measure, clean up.

The scratch place holds patients' data in the clear while the drill runs: mode 0700, and removed
whatever happens.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import msgspec

from agent.clock import Clock
from agent.drill.hashes import compare
from agent.drill.inspect import Inspected
from agent.drill.report import DrillReport, HostDrill, Restored
from agent.drill.sample import draw
from agent.errors import DrillFailed, NoSuchSnapshot, RestoreIncomplete, VitrineError
from agent.model.decoding import UNDECODABLE
from agent.model.ids import short
from agent.model.snapshot import SnapshotInfo
from agent.repository.reader import VaultReader
from agent.restore.plan import select
from agent.restore.run import Progress, restore

INSPECT_PATIENCE_S = 6 * 3600.0
_KEPT_FREE = 0.1  # of the scratch file system: a drill must not fill it
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Scope:
    """How much a drill restores."""

    sample_files: int
    whole: bool
    scratch: Path
    pacs: bool = True  # have a scratch Orthanc count the images, where one is installed


@dataclass(frozen=True, slots=True)
class Drill:
    """Rehearses recoveries of one vault."""

    clock: Clock
    on_progress: Progress

    def run(
        self, vault: str, newest: Sequence[SnapshotInfo], open_reader: Callable[[], VaultReader],
        scope: Scope,
    ) -> DrillReport:  # fmt: skip
        """Rehearse with the newest snapshot of each host; what fails is in the report.

        `open_reader` unwraps the keys and opens the index: that time belongs to a recovery.
        Raises NoSuchSnapshot where there is nothing to rehearse with.
        """
        if not newest:
            raise NoSuchSnapshot(f"the vault {vault} has no snapshot yet: nothing to rehearse")
        started_ns, began = self.clock.now_ns(), self.clock.monotonic()
        hosts = [self._host(info, open_reader, scope) for info in newest]
        recovery, is_measured = _recovery_time(hosts)
        return DrillReport(
            vault=vault,
            started_ns=started_ns,
            seconds=self.clock.monotonic() - began,
            recovery_point_seconds=max(
                (started_ns - info.snapshot.taken_ns) / _NS for info in newest
            ),
            recovery_time_seconds=recovery,
            is_measured=is_measured,
            hosts=tuple(hosts),
        )

    def _host(
        self, info: SnapshotInfo, open_reader: Callable[[], VaultReader], scope: Scope
    ) -> HostDrill:
        snapshot = info.snapshot
        result = HostDrill(
            host=short(snapshot.host),
            snapshot=short(info.id),
            taken_ns=snapshot.taken_ns,
            incomplete=sum(
                state.changed_while_read + state.unreadable + state.missing
                for state in snapshot.incomplete
            ),
            files=snapshot.files,
            bytes=snapshot.bytes,
            first_byte_seconds=0.0,
        )
        try:
            return self._rehearsed(result, snapshot.root, open_reader, scope)
        except (VitrineError, OSError) as error:
            return msgspec.structs.replace(result, problem=_told(error))

    def _rehearsed(
        self, result: HostDrill, root: bytes, open_reader: Callable[[], VaultReader], scope: Scope
    ) -> HostDrill:
        began = self.clock.monotonic()
        reader = open_reader()
        paths = draw(reader, root, scope.sample_files, SystemRandom())
        first = self.clock.monotonic() - began
        with tempfile.TemporaryDirectory(prefix="vitrine-drill-", dir=scope.scratch) as scratch:
            place = Path(scratch)
            sample = self._restored(reader, root, paths, place / "sample") if paths else None
            why_not = _why_not_whole(result.bytes, scope)
            whole = None if why_not else self._restored(reader, root, (), place / "whole")
            inspected = _inspected(place / ("sample" if whole is None else "whole"), place, scope)
        return msgspec.structs.replace(
            result,
            first_byte_seconds=first,
            sample=sample,
            whole=whole,
            why_not_whole=why_not,
            inspected=inspected,
        )

    def _restored(
        self, reader: VaultReader, root: bytes, paths: Sequence[bytes], target: Path
    ) -> Restored:
        """Restore `paths`, or everything, and read it all again."""
        target.mkdir(mode=0o700)
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            began = self.clock.monotonic()
            selection = select(reader, root, paths)
            outcome = restore(
                selection,
                reader,
                descriptor,
                clock=self.clock,
                stopped=lambda: False,
                on_progress=self.on_progress,
            )
            seconds = self.clock.monotonic() - began
            compared = compare(selection, descriptor)
        finally:
            os.close(descriptor)
        return Restored(outcome.files, outcome.bytes, outcome.failed, seconds, compared)


def _why_not_whole(size: int, scope: Scope) -> str:
    """Return why everything is not restored; empty where it is."""
    if not scope.whole:
        return "not asked for"
    usage = shutil.disk_usage(scope.scratch)
    room = usage.free - usage.total * _KEPT_FREE
    return "" if size <= room else "the scratch place has too little room"


def _inspected(restored: Path, scratch: Path, scope: Scope) -> Inspected:
    """Have a process without keys look at what was restored; raise DrillFailed where it cannot."""
    if not restored.exists():
        return Inspected()
    command = [sys.executable, "-m", "agent.drill.inspect", str(restored), str(scratch)]
    command += [] if scope.pacs else ["--no-pacs"]
    try:
        said = subprocess.run(
            command, check=True, timeout=INSPECT_PATIENCE_S, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout  # fmt: skip
        return msgspec.json.decode(said, type=Inspected)
    except (subprocess.SubprocessError, *UNDECODABLE) as error:
        raise DrillFailed("what was restored could not be looked at to the end") from error


def _recovery_time(hosts: Sequence[HostDrill]) -> tuple[float, bool]:
    """Return how long everything takes to come back, and whether that was measured."""
    total, is_measured = 0.0, True
    for host in hosts:
        if host.whole is not None:
            total += host.first_byte_seconds + host.whole.seconds
        elif host.sample is not None and host.sample.bytes:
            is_measured = False
            total += host.first_byte_seconds
            total += host.sample.seconds * host.bytes / host.sample.bytes
    return total, is_measured


def _told(error: Exception) -> str:
    """Return what may stand in a report: our own words, or the kernel's without a path."""
    if isinstance(error, RestoreIncomplete | VitrineError):
        return error.message
    return getattr(error, "strerror", None) or type(error).__name__
