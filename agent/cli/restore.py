"""`vitrine restore`: files of a vault written back, through the gate."""

import os
from pathlib import Path

import click

from agent.cli.output import json_option, number, print_json, say, size
from agent.cli.place import ask_factors, ask_gate, config_dir_option, factor_options
from agent.cli.progress import progress_bar
from agent.control import gate_messages
from agent.control.gate_messages import Restored
from agent.errors import RestoreIncomplete


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
        say(
            f"Restored {number(restored.files)} files ({size(restored.bytes)}) of snapshot "
            f"{restored.snapshot[:12]} to {target}."
        )
    if restored.failed:
        raise RestoreIncomplete(
            f"{number(restored.failed)} entries could not be restored as they were",
            hint="the target's owner finds them listed in a file there",
        )
