"""What maintenance does on the record to know a repository sound: parity, a thirtieth, contents."""

import logging
from collections.abc import Callable

from agent.audit.records import Event, Outcome
from agent.cli.progress import progress_bar
from agent.control.messages import Progress
from agent.errors import ObjectDamaged
from agent.maintained import Maintenance
from agent.maintenance.contents import ContentsReport, read_contents
from agent.maintenance.heal import Healer
from agent.maintenance.parity import ParityReport, drop_removed, make_missing
from agent.maintenance.rotation import RotatingVerify, RotationReport
from agent.maintenance.rotationstate import FILE
from agent.maintenance.state import ACTOR
from agent.model.snapshot import SnapshotInfo
from agent.repository.choose import by_prefix, name_of
from agent.repository.genuine import Genuine
from agent.repository.reader import VaultReader
from agent.repository.removals import read_removals

_REPAIR = "run `vitrine repair`, with --from where there is a copy"

log = logging.getLogger(__name__)


def genuine(work: Maintenance) -> Genuine:
    """Return what tells whether bytes are an object, with all keys of maintenance."""
    return Genuine(work.store, {keys.vault: keys for keys in work.vaults.values()})


def make_parity(work: Maintenance) -> ParityReport:
    """Make parity as configured; raise ObjectDamaged where an object is not what its name says."""
    config = work.config.parity
    for keys in work.vaults.values():
        drop_removed(work.store, keys.vault, read_removals(work.store, keys))
    with progress_bar() as show:
        report = make_missing(
            work.store,
            genuine(work),
            budget_bytes=config.read_bytes if config.make else 0,
            on_progress=lambda done, total: show(Progress("parity", done, total, "bytes")),
        )
    work.audit.append(
        Event.PARITY_MADE,
        Outcome.FAILED if report.damaged else Outcome.SUCCESS,
        actor=ACTOR,
        details={
            "made": report.made,
            "bytes": report.made_bytes,
            "left": report.left,
            "damaged": len(report.damaged),
        },
    )
    _raise_damaged(report.damaged, "has no parity, for it is damaged: %s")
    return report


def rotate(work: Maintenance, *, repair: bool | None = None) -> RotationReport:
    """Read the thirtieth that is due, and heal it as configured.

    Raises ObjectDamaged for what cannot be healed.
    """
    job = RotatingVerify(
        work.store,
        Healer(work.store, genuine(work)),
        work.clock,
        work.state.directory / FILE,
    )
    with progress_bar() as show:
        report = job.run(
            lambda done, total: show(Progress("verifying", done, total, "bytes")),
            repair=work.config.verify.repair if repair is None else repair,
        )
    for name in report.healed:
        log.warning("was damaged, and is healed: %s", name)
    work.audit.append(
        Event.VERIFICATION,
        Outcome.FAILED if report.damaged else Outcome.SUCCESS,
        actor=ACTOR,
        details={
            "parts": " ".join(map(str, report.parts)),
            "objects": report.objects,
            "bytes": report.read_bytes,
            "healed": len(report.healed),
            "damaged": len(report.damaged),
        },
    )
    _raise_damaged(report.damaged, "is damaged: %s")
    return report


def check_contents(work: Maintenance, name: str, prefix: str) -> list[ContentsReport]:
    """Read every file of a vault's snapshot, or of each host's newest; compare whole-file hashes.

    Raises NoSuchSnapshot, NameAmbiguous, WrongKey.
    """
    keys = work.vault(name)
    every: list[SnapshotInfo] = work.newest(keys)
    if prefix:
        every = [by_prefix(work.snapshots(keys), prefix, name_of)]
    reader = work.reader(keys)
    with progress_bar() as show:
        reports = [_contents(reader, info, show) for info in every]
    work.audit.append(
        Event.VERIFICATION,
        Outcome.SUCCESS if all(one.is_whole for one in reports) else Outcome.FAILED,
        actor=ACTOR,
        action="contents",
        target=name,
        details={
            "snapshots": len(reports),
            "files": sum(one.files for one in reports),
            "bytes": sum(one.bytes for one in reports),
            "wrong": sum(one.different + one.lacking + one.lost_pages for one in reports),
        },
    )
    return reports


def _contents(
    reader: VaultReader, info: SnapshotInfo, show: Callable[[Progress], None]
) -> ContentsReport:
    total = info.snapshot.bytes

    def tell(done: int) -> None:
        show(Progress("reading", done, total, "bytes"))

    return read_contents(reader, info.id, info.snapshot.root, tell)


def _raise_damaged(names: tuple[str, ...], line: str) -> None:
    for name in names:
        log.error(line, name)
    if names:
        raise ObjectDamaged(f"damaged, and not healed: {len(names)} objects", hint=_REPAIR)
