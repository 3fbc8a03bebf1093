"""`vitrine retention`: which snapshots are kept and why, before anything is removed."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import counted, json_option, print_json, when
from agent.cli.place import caller, config_dir_option
from agent.cli.terminal import console, styled, table
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
        reports = [plan_vault(work, work.vault(name)) for name in names]
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
        was = retention_of(work, keys).thaw(work.snapshots(keys), reason, caller())
    console.print(f"The retention of {vault} goes on.  It was frozen because: {was}.")


def plan_vault(work: Maintenance, keys: ReaderKeys) -> RetentionReport:
    """Say what the configured rules come to for one vault."""
    return retention_of(work, keys).plan(work.snapshots(keys))


def apply_vault(work: Maintenance, keys: ReaderKeys, confirm: int = 0) -> RetentionReport:
    """Remove what the configured rules do not keep of one vault, on the record."""
    job = retention_of(work, keys)
    return job.apply(work.snapshots(keys), work.secrets(keys), confirmed=confirm)


def retention_of(work: Maintenance, keys: ReaderKeys) -> Retention:
    """Return the retention of one vault, as it is configured."""

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
        print_json([_plain(report) for report in reports])
        return
    for report in reports:
        _table(report, shown)
        going, kept = len(report.to_remove), len(report.fates) - len(report.to_remove)
        line = f"{report.vault}: {counted(kept, 'snapshot')} kept, {going} that no rule keeps"
        console.print(line + (f", {report.removed} removed" if report.removed else ""))
        if report.frozen:
            console.print(styled("yellow", "  frozen, nothing is removed:"))
            for reason in report.frozen.split("; "):
                console.print(f"    {reason}")
            told = f"vitrine retention thaw {report.vault} --reason …"
            console.print(f"  when it is understood: `{told}`")


def _plain(report: RetentionReport) -> dict[str, object]:
    """Return a report for programs: ids as everywhere in hexadecimal, fields by name."""
    fates = [
        {
            "snapshot": fate.candidate.id.hex(),
            "host": fate.candidate.host.hex(),
            "sequence": fate.candidate.sequence,
            "received_ns": fate.candidate.received_ns,
            "complete": fate.candidate.is_complete,
            "keep": fate.keep,
            "reasons": fate.reasons,
        }
        for fate in report.fates
    ]
    return {
        "vault": report.vault,
        "frozen": report.frozen,
        "removed": report.removed,
        "finished": report.finished,
        "fates": fates,
    }


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
