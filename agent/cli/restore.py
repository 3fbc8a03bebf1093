"""`vitrine restore`, through the gate, and `vitrine recover`, with the passphrase alone."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from agent.cli.output import console, json_option, number, print_json, progress_bar, size, when
from agent.cli.place import ask_factors, ask_gate, config_dir_option, factor_options, first_line
from agent.clock import SystemClock
from agent.control import gate_messages
from agent.control.gate_messages import Restored
from agent.control.messages import Progress
from agent.errors import ConfigInvalid, RestoreIncomplete
from agent.restore.recover import Recovered, Recovery, Wanted
from agent.store.local import LocalStore


@click.command()
@click.argument("vault")
@click.argument("paths", nargs=-1)
@click.option("--target", required=True,
              type=click.Path(path_type=Path, file_okay=False, readable=False),
              help="A directory that exists and is not yours: restoring is blind.")  # fmt: skip
@click.option("--at", default="", metavar="WHEN", help="As of when, or a snapshot's id.")
@click.option("--purpose", default="", help="Why; it goes on record.")
@factor_options
@json_option
@config_dir_option
def restore(  # noqa: PLR0913, PLR0917 - one parameter an option
    vault: str,
    paths: tuple[str, ...],
    target: Path,
    at: str,
    purpose: str,
    password_file: Path | None,
    otp: str | None,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Have VAULT, or PATHS in it, written below --target.

    With owners, times and attributes.  Nothing that exists there is replaced, and
    nothing that you may not see is shown to you.
    """
    request = gate_messages.Restore(
        vault,
        ask_factors(password_file, otp),
        str(target.absolute()),
        tuple(os.fsencode(path.strip("/")) for path in paths),
        at,
        purpose,
    )
    with progress_bar() as show:
        restored = ask_gate(config_dir, request, Restored, show)
    if as_json:
        print_json(restored)
    else:
        console.print(
            f"Restored {number(restored.files)} files ({size(restored.bytes)}) of snapshot "
            f"{restored.snapshot[:12]} to {target}."
        )
    if restored.failed:
        raise RestoreIncomplete(
            f"{number(restored.failed)} entries could not be restored as they were",
            hint="the target's owner finds them listed in a file there",
        )


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
        console.print(
            f"Recovered {number(outcome.files)} files ({size(outcome.bytes)}) as of "
            f"{when(info.snapshot.taken_ns)} to {target}."
        )
        console.print("This is the newest snapshot here: compare its time with the agent's log.")
        for other in recovered.others:
            console.print(
                f"Another host wrote too: `--snapshot {other.id.hex()[:12]}` "
                f"of {when(other.snapshot.taken_ns)}."
            )
        if recovered.rebuilt_packs:
            console.print(f"{recovered.rebuilt_packs} packs were in no index and were read again.")
    outcome.check()
