"""`vitrine unlock`, `lock`, `sessions`: opening the case, shutting it, seeing who is at it."""

from pathlib import Path

import click

from agent.cli.output import (
    ago,
    clock_time,
    console,
    json_option,
    number,
    print_json,
    styled,
    table,
    when,
)
from agent.cli.place import ask_factors, ask_gate, config_dir_option, factor_options
from agent.control.gate_messages import AskSessions, Lock, Locked, Sessions, Unlock, Unlocked


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
    console.print(
        f"{opened.vault.capitalize()} as of {when(opened.taken_ns)} ({ago(opened.taken_ns)})"
        f" · {state} · {number(opened.files)} files"
    )
    console.print("  ", styled("bold", opened.path), sep="")
    console.print(f"  open until {until:%H:%M}, or until `vitrine lock`")


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
        console.print(f"Locked: {', '.join(ended.sessions)}")
    else:
        console.print("Nothing was open.")


@click.command()
@json_option
@config_dir_option
def sessions(as_json: bool, config_dir: Path) -> None:
    """List your open sessions; everybody's if your role may."""
    answer = ask_gate(config_dir, AskSessions(), Sessions)
    if as_json:
        print_json(answer)
        return
    if not answer.sessions:
        console.print("No session is open.")
        return
    rows = [
        (s.session, s.user, s.vault, s.action, f"{clock_time(s.ends_ns):%H:%M}", s.path)
        for s in answer.sessions
    ]
    table(("SESSION", "USER", "VAULT", "ACTION", "UNTIL", "PATH"), rows, long="PATH")
