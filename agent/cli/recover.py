"""`vitrine recover`: a vault got back with the passphrase alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from agent.cli.output import json_option, number, print_json, say, size, when
from agent.cli.place import first_line
from agent.cli.progress import progress_bar
from agent.clock import SystemClock
from agent.control.messages import Progress
from agent.errors import ConfigInvalid
from agent.restore.recover import Recovered, Recovery, Wanted
from agent.store.local import LocalStore


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, file_okay=False))
@click.option("--vault", required=True)
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the recovery passphrase from the first line of this file.",
)  # fmt: skip
@click.option("--target", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--snapshot", default="", help="The beginning of its id; by default the newest.")
@json_option
def recover(
    repository: Path,
    vault: str,
    passphrase_file: Path | None,
    target: Path,
    snapshot: str,
    as_json: bool,
) -> None:
    """Get a vault back with its recovery passphrase alone.

    Neither gate nor agent is needed: REPOSITORY and passphrase are enough.
    """
    if passphrase_file is None:
        passphrase = click.prompt("Recovery passphrase", hide_input=True, err=True)
    else:
        passphrase = first_line(passphrase_file)
    if not repository.is_dir():
        raise ConfigInvalid(f"there is no directory {repository}", hint="check the path")
    store = LocalStore(repository.absolute())
    try:
        with progress_bar() as show:
            recovery = Recovery(store, SystemClock(), partial(_show, show))
            wanted = Wanted(vault, snapshot)
            recovered = recovery.recover(wanted, passphrase, str(target.absolute()))
    finally:
        store.close()
    _report(recovered, target, as_json)


def _show(show: Callable[[Progress], None], done: int, total: int, files: int) -> None:
    show(Progress(f"{number(files)} files", done, total, "bytes"))


def _report(recovered: Recovered, target: Path, as_json: bool) -> None:
    outcome, info = recovered.outcome, recovered.snapshot
    if as_json:
        print_json(recovered)
    else:
        say(
            f"Recovered {number(outcome.files)} files ({size(outcome.bytes)}) as of "
            f"{when(info.snapshot.taken_ns)} to {target}."
        )
        say("This is the newest snapshot here: compare its time with the agent's log.")
        for other in recovered.others:
            say(
                f"Another host wrote too: `--snapshot {other.id.hex()[:12]}` "
                f"of {when(other.snapshot.taken_ns)}."
            )
        if recovered.rebuilt_packs:
            say(f"{recovered.rebuilt_packs} packs were in no index and were read again.")
    outcome.check()
