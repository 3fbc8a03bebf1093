"""`vitrine audit`: what happened, and whether the record still is what was written."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.padding import Padding
from rich.text import Text

from agent.cli.output import json_option, number, print_json
from agent.cli.place import ask_gate, config_dir_option
from agent.cli.terminal import console, styled
from agent.control.gate_messages import AskAudit, AuditPage
from agent.model.ids import SHORT_HEX

_INDENT = 8  # to below the time
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@click.group()
def audit() -> None:
    """Read and verify the gate's audit.

    Reading it is itself on record.
    """


@audit.command()
@click.option("--count", default=50, show_default=True, help="How many of the newest records.")
@json_option
@config_dir_option
def show(count: int, as_json: bool, config_dir: Path) -> None:
    """Show the newest records, oldest first."""
    page = ask_gate(config_dir, AskAudit(count=count), AuditPage)
    records = [msgspec.json.decode(text) for text in page.records]
    if as_json:
        print_json(records)
        return
    for record in records:
        _show(record)


@audit.command()
@json_option
@config_dir_option
def verify(as_json: bool, config_dir: Path) -> None:
    """Check every link and signature of the chain; a change, cut or gap is named."""
    page = ask_gate(config_dir, AskAudit(count=0, verify=True), AuditPage)
    if as_json:
        print_json({"records": page.verified, "signatures": page.signed, "intact": True})
        return
    console.print(
        f"The audit chain is intact: {number(page.verified)} records, "
        f"{number(page.signed)} signatures."
    )


def _show(record: dict[str, Any]) -> None:
    """Print one record: a line that says what happened, and its details below."""
    outcome = record["outcome"]
    done = styled("" if outcome == "success" else "bold red", f"{outcome:<8}")
    time = f"{datetime.fromisoformat(record['time']).astimezone():%Y-%m-%d %H:%M:%S}"
    head = f"{record['seq']:>6}  {time}  {record['event']:<18}  "
    console.print(head, done, f"  {record['actor']}  {record['object']}".rstrip(), sep="")
    details = record.get("details") or {}
    if details:
        below = Text("  ".join(f"{key}={_short(value)}" for key, value in details.items()))
        console.print(Padding(below, (0, 0, 0, _INDENT), expand=False), soft_wrap=False)


def _short(value: object) -> str:
    """Return a detail for people: identifiers by their beginning, as everywhere else."""
    text = str(value)
    return f"{text[:SHORT_HEX]}…" if _IDENTIFIER.fullmatch(text) else text
