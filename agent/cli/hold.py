"""`vitrine hold`: snapshots that must stay, whatever the rules say."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import click
import msgspec

from agent.audit.records import Event, Outcome
from agent.cli.output import counted, json_option, print_json, when
from agent.cli.place import caller, config_dir_option
from agent.cli.retention import plan_vault, retention_of
from agent.cli.terminal import console, table
from agent.clock import utc
from agent.crypto.secrets import ReaderKeys
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid, NotFound
from agent.maintained import Maintenance, maintenance
from agent.maintenance.retention.notes import NotesFile
from agent.model.ids import SnapshotId, short
from agent.repository import choose
from agent.repository.holds import (
    MAX_HELD,
    Hold,
    Release,
    new_name,
    put_hold,
    put_release,
    read_holds,
)

_NS = 10**9
_NEVER = "never"
_DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def hold() -> None:
    """Keep snapshots whatever the rules say."""


@hold.command()
@click.argument("vault")
@click.argument("snapshots", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every snapshot there is or will be.")
@click.option(
    "--from", "first", type=_DAY, metavar="YYYY-MM-DD", help="Those that came on this day or later."
)
@click.option(
    "--to", "last", type=_DAY, metavar="YYYY-MM-DD", help="Those that came on this day or earlier."
)
@click.option("--reason", required=True, help="Why; it is sealed, and shown with the plan.")
@click.option("--until", default=_NEVER, show_default=True, metavar="YYYY-MM-DD",
              help="The first day on which they may go.")  # fmt: skip
@config_dir_option
def add(  # noqa: PLR0913, PLR0917 - one parameter an option
    vault: str, snapshots: tuple[str, ...], everything: bool, first: datetime | None,
    last: datetime | None, reason: str, until: str, config_dir: Path,
) -> None:  # fmt: skip
    """Hold SNAPSHOTS of VAULT, named by the beginnings of their ids, or those of some days."""
    if [bool(snapshots), everything, bool(first or last)].count(True) != 1:
        raise ConfigInvalid("name snapshots, or days with --from and --to, or all with --all")
    with maintenance(config_dir / "maintenance.toml") as work:
        keys = work.vault(vault)
        until_ns = _until_ns(until, work.clock.now_ns())
        ids = _of_days(work, keys, first, last) if first or last else _named(work, keys, snapshots)
        if len(ids) > MAX_HELD:
            raise ConfigInvalid(
                f"{len(ids)} snapshots are more than the {MAX_HELD} of one hold",
                hint="hold fewer days at a time, or everything with --all",
            )
        made = Hold(keys.vault, new_name(), ids, until_ns, reason, caller(), work.clock.now_ns())
        work.audit.append(
            Event.HOLD_ADDED, Outcome.SUCCESS, actor=made.by, target=vault,
            details={"hold": made.name.hex(), "snapshots": len(ids), "until": until},
        )  # fmt: skip
        authority = SigningKey(work.secrets(keys).authority)
        put_hold(work.store, made, keys.index(), authority)
        NotesFile(retention_of(work, keys).files.notes).add_hold(made.name)
    what = "every snapshot" if everything else counted(len(ids), "snapshot")
    console.print(f"Hold {short(made.name)} keeps {what} of {vault} until {until}.")


@hold.command(name="list")
@click.argument("vault")
@json_option
@config_dir_option
def list_(vault: str, as_json: bool, config_dir: Path) -> None:
    """List the holds on VAULT that were not released."""
    with maintenance(config_dir / "maintenance.toml") as work:
        holds = read_holds(work.store, work.vault(vault))
    if as_json:
        print_json([{**msgspec.structs.asdict(one), "name": one.name.hex(),
                     "vault": vault, "snapshots": [id_.hex() for id_ in one.snapshots]}
                    for one in holds])  # fmt: skip
        return
    if not holds:
        console.print(f"Nothing of {vault} is held.")
        return
    rows = [
        (
            short(one.name),
            when(one.time_ns),
            str(len(one.snapshots)) if one.snapshots else "all",
            when(one.until_ns) if one.until_ns else _NEVER,
            f"{one.reason} ({one.by})",
        )
        for one in holds
    ]
    table(("HOLD", "SINCE", "SNAPSHOTS", "UNTIL", "WHY"), rows, right="SNAPSHOTS", long="WHY")


@hold.command()
@click.argument("vault")
@click.argument("name")
@click.option("--reason", required=True, help="Why it may end; it goes on record.")
@config_dir_option
def release(vault: str, name: str, reason: str, config_dir: Path) -> None:
    """End the hold on VAULT whose name begins with NAME."""
    with maintenance(config_dir / "maintenance.toml") as work:
        keys = work.vault(vault)
        found = [h for h in read_holds(work.store, keys) if h.name.hex().startswith(name.lower())]
        if len(found) != 1:
            raise NotFound(
                f"{len(found)} holds on {vault} begin with {name}", hint="`vitrine hold list`"
            )
        ended = Release(keys.vault, found[0].name, reason, caller(), work.clock.now_ns())
        work.audit.append(
            Event.HOLD_RELEASED, Outcome.SUCCESS, actor=ended.by, target=vault,
            details={"hold": ended.name.hex(), "why": reason},
        )  # fmt: skip
        put_release(work.store, ended, keys.index(), SigningKey(work.secrets(keys).authority))
    console.print(f"Hold {short(ended.name)} on {vault} has ended.")


def _named(
    work: Maintenance, keys: ReaderKeys, beginnings: Sequence[str]
) -> tuple[SnapshotId, ...]:
    known = work.snapshots(keys)
    return tuple(choose.by_prefix(known, one, choose.name_of).id for one in beginnings)


def _of_days(
    work: Maintenance, keys: ReaderKeys, first: datetime | None, last: datetime | None
) -> tuple[SnapshotId, ...]:
    """Return what came on these days, by the receiver's clock and the vault's time zone."""
    zone = retention_of(work, keys).zone
    begin, end = first.date() if first else date.min, last.date() if last else date.max
    candidates = [fate.candidate for fate in plan_vault(work, keys).fates]
    found = tuple(
        one.id for one in candidates if begin <= utc(one.received_ns).astimezone(zone).date() <= end
    )
    if not found:
        raise NotFound("no snapshot came on these days", hint="`vitrine retention plan --all`")
    return found


def _until_ns(text: str, now_ns: int) -> int:
    if text == _NEVER:
        return 0
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigInvalid(
            f"{text!r} is no day", hint="write it as 2041-12-31, or `never`"
        ) from error
    until_ns = int(day.timestamp()) * _NS
    if until_ns <= now_ns:
        raise ConfigInvalid(f"{text} is over: that would hold nothing")
    return until_ns
