"""`vitrine audit`: what happened, and whether the record still is what was written."""

from pathlib import Path

import click
import msgspec

from agent.cli.output import console, json_option, number, print_json, table
from agent.cli.place import ask_gate, config_dir_option
from agent.control.gate_messages import AskAudit, AuditPage


@click.group()
def audit() -> None:
    """Read and verify the gate's audit record; reading it is itself on record."""


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
    rows = [_row(record) for record in records]
    table(("SEQ", "TIME", "EVENT", "OUTCOME", "WHO", "WHAT", "DETAILS"), rows, right="SEQ")


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


def _row(record: dict[str, object]) -> tuple[str, ...]:
    details = record.get("details") or {}
    text = ", ".join(f"{k}={v}" for k, v in details.items()) if isinstance(details, dict) else ""
    shown = [str(record.get(key, "")) for key in ("seq", "time", "event", "outcome", "actor")]
    what = str(record.get("object", ""))
    return (*shown, what, text)
