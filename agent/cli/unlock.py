"""`vitrine unlock` and `lock`: opening the case, and shutting it."""

from pathlib import Path

import click

from agent.cli.output import ago, clock_time, json_option, number, print_json, say, when
from agent.cli.place import ask_factors, ask_gate, config_dir_option, factor_options
from agent.control.gate_messages import Lock, Locked, Unlock, Unlocked


@click.command()
@click.argument("vault")
@click.option("--at", default="", metavar="WHEN", help="As of when: 'yesterday 14:00', an id, …")
@click.option("--purpose", default="", help="Why; it goes on record.")
@factor_options
@json_option
@config_dir_option
def unlock(
    vault: str,
    at: str,
    purpose: str,
    password_file: Path | None,
    otp: str | None,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Mount VAULT's history read-only, for you alone, for a while."""
    request = Unlock(vault, ask_factors(password_file, otp), at, purpose)
    opened = ask_gate(config_dir, request, Unlocked)
    if as_json:
        print_json(opened)
        return
    state = "complete" if opened.complete else "incomplete: see `vitrine snapshots`"
    until = clock_time(opened.ends_ns)
    say(
        f"{opened.vault.capitalize()} as of {when(opened.taken_ns)} ({ago(opened.taken_ns)})"
        f" · {state} · {number(opened.files)} files"
    )
    say("  " + click.style(opened.path, bold=True))
    say(f"  open until {until:%H:%M}, or until `vitrine lock`")


@click.command()
@click.argument("session", default="")
@json_option
@config_dir_option
def lock(session: str, as_json: bool, config_dir: Path) -> None:
    """Shut SESSION, or all of your sessions.

    The mount goes, and what the kernel holds of it.
    """
    ended = ask_gate(config_dir, Lock(session), Locked)
    if as_json:
        print_json(ended)
    elif ended.sessions:
        say(f"Locked: {', '.join(ended.sessions)}")
    else:
        say("Nothing was open.")
