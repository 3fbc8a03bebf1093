"""`vitrine prune`: deletes what no snapshot needs, after waiting long enough."""

import math
from collections.abc import Mapping
from pathlib import Path

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import counted, json_option, print_json, size
from agent.cli.place import config_dir_option
from agent.cli.progress import progress_bar
from agent.cli.terminal import console
from agent.config import PruneConfig
from agent.control.messages import Progress
from agent.crypto.secrets import ReaderKeys
from agent.maintained import Maintenance, maintenance
from agent.maintenance.elapsed import elapsed_ns, note_clocks
from agent.maintenance.prune.fates import DAY_NS, Waits
from agent.maintenance.prune.job import Prune
from agent.maintenance.prune.report import PruneReport
from agent.maintenance.prune.waste import Limits
from agent.maintenance.state import ACTOR


@click.command()
@click.argument("vaults", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what is waiting, and what would go.")
@json_option
@config_dir_option
def prune(vaults: tuple[str, ...], dry_run: bool, as_json: bool, config_dir: Path) -> None:
    """Delete what no snapshot needs any more.

    Of VAULTS, by default of all.  A pack is noted first, condemned two weeks later, and
    deleted a week after that, if no snapshot has come to need it: run it once a day.
    """
    with maintenance(config_dir / "maintenance.toml") as work:
        names = vaults or tuple(sorted(work.vaults))
        reports = [prune_vault(work, work.vault(name), dry_run=dry_run) for name in names]
    if as_json:
        print_json(reports)
        return
    for report in reports:
        _show(report, dry_run=dry_run)


def prune_vault(work: Maintenance, keys: ReaderKeys, *, dry_run: bool = False) -> PruneReport:
    """Prune one vault as configured, on the record."""

    def record(counts: Mapping[str, int]) -> None:
        work.audit.append(
            Event.PACKS_PRUNED, Outcome.SUCCESS, actor=ACTOR, target=keys.name,
            details=dict(counts),
        )  # fmt: skip

    clocks = work.state.directory / f"prune-{keys.vault.hex()}.json"
    with progress_bar() as show:
        job = Prune(
            work.store, work.clock, keys, work.secrets(keys), work.frames(keys), work.index(keys),
            lambda: note_clocks(clocks, work.clock), record,
        )  # fmt: skip
        return job.run(
            work.snapshots(keys),
            elapsed_ns(clocks, work.clock),
            _limits(work.config.prune),
            lambda what, done, total: show(Progress(f"{keys.name}: {what}", done, total, "")),
            dry_run=dry_run,
        )


def _limits(config: PruneConfig) -> Limits:
    waits = Waits(int(config.min_age_days * DAY_NS), int(config.grace_days * DAY_NS))
    return Limits(waits, config.used_share, config.rewrite_bytes)


def _show(report: PruneReport, *, dry_run: bool) -> None:
    console.print(
        f"{report.vault}: {counted(report.packs, 'pack')}, {size(report.bytes)}, of which "
        f"{size(report.unused_bytes)} are waste in packs that are partly needed"
    )
    would = "would be " if dry_run else ""
    console.print(
        f"  needed by no snapshot: {report.noted} noted, {size(report.noted_bytes)}; "
        f"{report.condemned} condemned, {size(report.condemned_bytes)}"
    )
    ahead = (("condemned", report.next_condemned_days), ("deleted", report.next_deleted_days))
    for what, days in ahead:
        if days is not None:
            console.print(f"  the next is {what} in {counted(math.ceil(days), 'day')}")
    if report.rewritten:
        made = "" if dry_run else f" into {size(report.rewritten_bytes)}"
        console.print(f"  {counted(report.rewritten, 'pack')} {would}rewritten{made}")
    if report.swept or not dry_run:
        console.print(
            f"  {counted(report.swept, 'pack')}, {size(report.swept_bytes)}, {would}deleted"
        )
    if report.kept:
        console.print(
            f"  {counted(report.kept, 'pack')} could have gone, but hold something that cannot be "
            "read elsewhere: run `vitrine verify --read-data`"
        )
