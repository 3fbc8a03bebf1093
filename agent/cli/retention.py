"""`vitrine retention`: which snapshots are kept and why, before anything is removed."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import console, counted, json_option, print_json, styled, table, when
from agent.cli.place import caller, config_dir_option
from agent.config import RetentionConfig
from agent.crypto.secrets import ReaderKeys
from agent.errors import ConfigInvalid
from agent.maintained import Maintenance, maintenance
from agent.maintenance.retention.durations import duration_ns
from agent.maintenance.retention.job import Retention, RetentionReport, StateFiles
from agent.maintenance.retention.policy import Rules
from agent.maintenance.state import ACTOR
from agent.model.ids import short

_EVENTS = {
    "removed": Event.SNAPSHOTS_REMOVED,
    "frozen": Event.RETENTION_FROZEN,
    "thawed": Event.RETENTION_THAWED,
}
_SHOWN = 200  # of one vault; all of them with --all or --json


@click.group()
def retention() -> None:
    """Say which snapshots are kept, and remove others."""


@retention.command()
@click.argument("vaults", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Show every snapshot.")
@json_option
@config_dir_option
def plan(vaults: tuple[str, ...], everything: bool, as_json: bool, config_dir: Path) -> None:
    """Say what becomes of each snapshot, and why.  Removes nothing."""
    with maintenance(config_dir / "maintenance.toml") as work:
        names = vaults or tuple(sorted(work.vaults))
        reports = [_job(work, work.vault(n)).plan(work.snapshots(work.vault(n))) for n in names]
    _show(reports, as_json=as_json, shown=None if everything else _SHOWN)


@retention.command()
@click.argument("vaults", nargs=-1)
@click.option("--confirm", type=click.IntRange(0), default=0, metavar="N",
              help="Agree to so many removals at once.")  # fmt: skip
@json_option
@config_dir_option
def apply(vaults: tuple[str, ...], confirm: int, as_json: bool, config_dir: Path) -> None:
    """Remove what no rule keeps.  `vitrine prune` then frees the space."""
    with maintenance(config_dir / "maintenance.toml") as work:
        names = vaults or tuple(sorted(work.vaults))
        reports = [apply_vault(work, work.vault(name), confirm) for name in names]
    _show(reports, as_json=as_json, shown=0)


@retention.command()
@click.argument("vault")
@click.option("--reason", required=True, help="Why it is right to go on; it goes on record.")
@config_dir_option
def thaw(vault: str, reason: str, config_dir: Path) -> None:
    """Let the retention of VAULT go on after a freeze."""
    with maintenance(config_dir / "maintenance.toml") as work:
        keys = work.vault(vault)
        was = _job(work, keys).thaw(work.snapshots(keys), reason, caller())
    console.print(f"The retention of {vault} goes on.  It was frozen because: {was}.")


def apply_vault(work: Maintenance, keys: ReaderKeys, confirm: int = 0) -> RetentionReport:
    """Remove what the configured rules do not keep of one vault, on the record."""
    job = _job(work, keys)
    return job.apply(work.snapshots(keys), work.secrets(keys), confirmed=confirm)


def _job(work: Maintenance, keys: ReaderKeys) -> Retention:
    def record(what: str, details: Mapping[str, int | str]) -> None:
        work.audit.append(
            _EVENTS[what], Outcome.SUCCESS, actor=ACTOR, target=keys.name, details=dict(details)
        )

    configured = next(one.retention for one in work.config.vault if one.name == keys.name)
    return Retention(
        work.store, work.clock, keys, _rules(configured), _zone(configured.time_zone),
        StateFiles.of(work.state.directory, keys.vault.hex()), record,
    )  # fmt: skip


def _rules(config: RetentionConfig) -> Rules:
    return Rules(
        config.hourly,
        config.daily,
        config.weekly,
        config.monthly,
        config.yearly,
        duration_ns(config.everything_newer_than),
        duration_ns(config.minimum_age),
    )


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigInvalid(
            f"there is no time zone {name!r}", hint="name one as Europe/Berlin, or leave it out"
        ) from error


def _show(reports: Sequence[RetentionReport], *, as_json: bool, shown: int | None) -> None:
    if as_json:
        print_json(reports)
        return
    for report in reports:
        _table(report, shown)
        going, kept = len(report.to_remove), len(report.fates) - len(report.to_remove)
        line = f"{report.vault}: {counted(kept, 'snapshot')} kept, {going} that no rule keeps"
        console.print(line + (f", {report.removed} removed" if report.removed else ""))
        if report.frozen:
            console.print(styled("yellow", f"  frozen, nothing is removed: {report.frozen}"))
            console.print(f"  when it is understood: `vitrine retention thaw {report.vault}`")


def _table(report: RetentionReport, shown: int | None) -> None:
    fates = list(reversed(report.fates))[:shown]
    if not fates:
        return
    rows = [
        (
            short(fate.candidate.id),
            when(fate.candidate.received_ns),
            styled("green", "keep") if fate.keep else styled("red", "remove"),
            "; ".join(fate.reasons),
        )
        for fate in fates
    ]
    table(("SNAPSHOT", "RECEIVED", "", "WHY"), rows, long="WHY")
    if len(report.fates) > len(fates):
        console.print(f"… and {len(report.fates) - len(fates)} older ones: --all")
