"""`vitrine snapshot`: one snapshot now, through the daemon if it runs, without it otherwise."""

from pathlib import Path

import click

from agent.agentrun import snapshot_once
from agent.backup.request import Counts
from agent.backup.told import progress
from agent.cli.output import json_option, number, print_json, say, size
from agent.cli.place import ask_agent, client, config_dir_option
from agent.cli.progress import progress_bar
from agent.config import AgentConfig, load
from agent.control.agent_messages import SnapshotsTaken, SnapshotTaken, TakeSnapshot
from agent.errors import ServiceNotRunning


@click.command()
@click.option("--vault", default="", help="Only this one.")
@click.option("--full", is_flag=True, help="Look at every directory, not at what events named.")
@click.option("--reread", is_flag=True,
              help="Read every file again, and store what the repository has lost.")  # fmt: skip
@json_option
@config_dir_option
def snapshot(vault: str, full: bool, reread: bool, as_json: bool, config_dir: Path) -> int:
    """Take a snapshot of every vault now.  Exit status 1 if a source was incomplete."""
    taken = _taken(config_dir, TakeSnapshot(vault, full, reread))
    if as_json:
        print_json(SnapshotsTaken(taken))
    else:
        for one in taken:
            _show(one)
    return int(any(one.incomplete for one in taken))


def _taken(config_dir: Path, request: TakeSnapshot) -> tuple[SnapshotTaken, ...]:
    with progress_bar() as show:
        try:
            return ask_agent(config_dir, request, SnapshotsTaken, show).taken
        except ServiceNotRunning:
            if not client(config_dir).agent_socket:
                raise

        def told(counts: Counts) -> None:
            show(progress(request.vault or "all vaults", counts))

        # without a daemon nobody knows what changed meanwhile: the run looks at everything
        config = load(config_dir / "agent.toml", AgentConfig)
        return snapshot_once(config, request, told).taken


def _show(one: SnapshotTaken) -> None:
    flaw = f"; {one.incomplete} incomplete: see `vitrine status`" if one.incomplete else ""
    if not one.id:
        again = f"; {size(one.added_bytes)} were missing: stored again" if one.added_bytes else ""
        say(f"{one.vault}: nothing has changed ({number(one.files)} files){again}{flaw}")
        return
    say(
        f"{one.vault}: snapshot {one.id[:12]}, {number(one.files)} files "
        f"({size(one.bytes)}); read {number(one.read_files)}, added {size(one.added_bytes)} "
        f"in {one.seconds:.1f} s{flaw}"
    )
