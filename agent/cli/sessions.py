"""`vitrine sessions`: who is at the open cases."""

from pathlib import Path

import click

from agent.cli.output import clock_time, json_option, print_json
from agent.cli.place import ask_gate, config_dir_option
from agent.cli.terminal import console, table
from agent.control.gate_messages import AskSessions, Sessions


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
