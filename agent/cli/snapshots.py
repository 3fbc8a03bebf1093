"""`vitrine snapshots`: which states of a vault there are.  Times and totals, no names."""

from pathlib import Path

import click

from agent.cli.output import json_option, number, print_json, size, when
from agent.cli.place import ask_gate, config_dir_option
from agent.cli.terminal import console, table
from agent.control.gate_messages import AskSnapshots, Snapshots
from agent.model.ids import SHORT_HEX


@click.command()
@click.argument("vault", default="")
@json_option
@config_dir_option
def snapshots(vault: str, as_json: bool, config_dir: Path) -> None:
    """List the snapshots of VAULT, or of all you have a right on."""
    answer = ask_gate(config_dir, AskSnapshots(vault), Snapshots)
    if as_json:
        print_json(answer)
        return
    if not answer.snapshots:
        console.print("No snapshot yet.")
        return
    rows = [
        (
            s.id[:SHORT_HEX],
            s.vault,
            when(s.taken_ns),
            number(s.files),
            size(s.bytes),
            size(s.added_bytes),
            "complete" if not s.incomplete else f"{s.incomplete} incomplete",
        )
        for s in answer.snapshots
    ]
    columns = ("ID", "VAULT", "TAKEN", "FILES", "SIZE", "ADDED", "STATE")
    table(columns, rows, right="FILES SIZE ADDED")
    if answer.older:
        console.print(f"… and {number(answer.older)} older ones.")
