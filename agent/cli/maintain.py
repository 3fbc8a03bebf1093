"""`vitrine maintain`: what keeps a repository well, once a day, each job by itself."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import json_option, print_json
from agent.cli.place import config_dir_option
from agent.cli.prune import prune_vault
from agent.cli.retention import apply_vault
from agent.cli.terminal import console, styled
from agent.cli.upkeep import make_parity, rotate
from agent.crypto.secrets import ReaderKeys
from agent.errors import VitrineError
from agent.maintained import Maintenance, maintenance
from agent.maintenance.state import ACTOR

log = logging.getLogger(__name__)

Job = Callable[[Maintenance, ReaderKeys], str]
"""Does one thing to one vault; says in a line what came of it."""


class Done(NamedTuple):
    """What came of one job."""

    vault: str
    job: str
    said: str
    error: VitrineError | None


@click.command()
@click.argument("vaults", nargs=-1)
@json_option
@config_dir_option
def maintain(vaults: tuple[str, ...], as_json: bool, config_dir: Path) -> None:
    """Do the day's maintenance: thin, prune, protect, verify.

    Retention and prune of VAULTS, by default of all; then parity for what has none, and a
    thirtieth of everything verified.  One job that fails keeps no other from running; the exit
    status is then that of the first.
    """
    with maintenance(config_dir / "maintenance.toml") as work:
        names = vaults or tuple(sorted(work.vaults))
        done = [_run(work, name, job) for name in names for job in JOBS]
        done += [_run(work, WHOLE, job) for job in WHOLE_JOBS]
    if as_json:
        print_json(
            [{"vault": d.vault, "job": d.job, "said": d.said, "ok": not d.error} for d in done]
        )
    else:
        _show(done)
    failed = next((one.error for one in done if one.error is not None), None)
    if failed is not None:
        raise failed


def _run(work: Maintenance, name: str, job: str) -> Done:
    try:
        said = WHOLE_JOBS[job](work) if name == WHOLE else JOBS[job](work, work.vault(name))
    except VitrineError as error:
        log.warning("maintenance: %s failed: %s", job, error.message)
        work.audit.append(
            Event.MAINTENANCE_FAILED, Outcome.FAILED, actor=ACTOR, action=job, target=name,
            details={"why": type(error).__name__},
        )  # fmt: skip
        return Done(name, job, error.message, error)
    return Done(name, job, said, None)


def _retention(work: Maintenance, keys: ReaderKeys) -> str:
    report = apply_vault(work, keys)
    if report.frozen:
        log.warning("retention of a vault is frozen: `vitrine retention plan` says why")
        return f"frozen, nothing is removed: {report.frozen}"
    return f"{len(report.fates) - report.removed} snapshots kept, {report.removed} removed"


def _prune(work: Maintenance, keys: ReaderKeys) -> str:
    report = prune_vault(work, keys)
    return (
        f"{report.noted} packs noted, {report.condemned} condemned, {report.swept} deleted, "
        f"{report.rewritten} rewritten"
    )


def _parity(work: Maintenance) -> str:
    report = make_parity(work)
    left = f"; {report.left} left for the next runs" if report.left else ""
    return f"{report.made} made{left}"


def _verify(work: Maintenance) -> str:
    report = rotate(work)
    return f"{report.objects} objects read, {len(report.healed)} healed"


JOBS: dict[str, Job] = {"retention": _retention, "prune": _prune}
WHOLE = ""  # in a vault's place, for jobs that are about all of the repository
WHOLE_JOBS: dict[str, Callable[[Maintenance], str]] = {"parity": _parity, "verify": _verify}


def _show(done: Sequence[Done]) -> None:
    for one in done:
        state = styled("red", "failed") if one.error else styled("green", "done")
        console.print(f"{one.vault or 'repository'} {one.job}: ", state, f"  {one.said}", sep="")
