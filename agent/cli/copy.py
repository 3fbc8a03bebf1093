"""`vitrine copy`: a second repository, kept up to date without a key."""

import os
from pathlib import Path

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import counted, json_option, print_json, size
from agent.cli.place import client, config_dir_option
from agent.cli.progress import progress_bar
from agent.cli.terminal import console, styled
from agent.cli.upkeep import genuine
from agent.control.hardening import REPOSITORY_UMASK, harden
from agent.control.messages import Progress
from agent.errors import ObjectDamaged
from agent.maintained import Maintenance, maintenance
from agent.maintenance.copy import Copying, CopyReport
from agent.maintenance.state import ACTOR
from agent.repository.genuine import Genuine
from agent.store.base import Store
from agent.store.local import LocalStore


@click.command()
@click.argument("to", type=click.Path(path_type=Path, file_okay=False))
@click.option("--from", "source", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="The repository; by default the one that is configured.")  # fmt: skip
@click.option("--revoke", is_flag=True, help="Delete keyslots in the copy that were revoked since.")
@json_option
@config_dir_option
def copy(to: Path, source: Path | None, revoke: bool, as_json: bool, config_dir: Path) -> None:
    """Bring a second repository up to date, checked.

    What TO lacks is copied, each object checked before; TO is made where there is none.  Nothing is
    deleted in it, but keyslots with --revoke.
    """
    configured = config_dir / "maintenance.toml"
    if source is None and os.access(configured, os.R_OK):
        with maintenance(configured) as work:
            report = _copied(work.store, to, genuine(work), revoke=revoke)
            _record(work, report)
    else:
        harden(REPOSITORY_UMASK)
        first = LocalStore((source or Path(client(config_dir).repository)).absolute())
        try:
            report = _copied(first, to, Genuine(first), revoke=revoke)
        finally:
            first.close()
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report.damaged:
        raise ObjectDamaged(
            f"damaged in the source, and not copied: {counted(len(report.damaged), 'object')}",
            hint="run `vitrine repair`, then copy again",
        )


def _copied(source: Store, to: Path, check: Genuine, *, revoke: bool) -> CopyReport:
    target = LocalStore.create(to.absolute())
    try:
        with progress_bar() as show:
            return Copying(source, target, check).run(
                lambda done, total: show(Progress("copying", done, total, "bytes")), revoke=revoke
            )
    finally:
        target.close()


def _record(work: Maintenance, report: CopyReport) -> None:
    work.audit.append(
        Event.REPOSITORY_COPIED,
        Outcome.FAILED if report.damaged else Outcome.SUCCESS,
        actor=ACTOR,
        details={
            "objects": report.objects,
            "bytes": report.bytes,
            "healed": len(report.healed),
            "damaged": len(report.damaged),
            "revoked_slots": report.revoked,
        },
    )


def _show(report: CopyReport) -> None:
    console.print(f"{counted(report.objects, 'object')}, {size(report.bytes)}, copied")
    for name in report.healed:
        console.print(styled("yellow", name), "is damaged in the source: healed in the copy")
    for name in report.damaged:
        console.print(styled("bold red", name), "is damaged in the source: not copied")
    if report.extra_slots and not report.revoked:
        console.print(
            f"{counted(report.extra_slots, 'keyslot')} that the source no longer has still open "
            "the copy: --revoke deletes them"
        )
