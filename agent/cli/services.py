"""`vitrine agent`, `gate`, `launcher`: one process each, for systemd and for `vitrine up`.

The wiring is imported when its service starts: no process holds another one's code.
"""

import importlib
from pathlib import Path

import click


def _service(name: str, module: str, does: str) -> click.Command:
    """Return the command that runs one service."""

    @click.command(name, help=does)
    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="The service's TOML file (docs/configuration.md).",
    )
    def command(config: Path) -> None:
        importlib.import_module(module).run(config)

    return command


agent = _service(
    "agent",
    "agent.agentd",
    "Run the agent: watch, seal, append.  It can open nothing.",
)
gate = _service("gate", "agent.gated", "Run the gate: identify, decide, record, unseal.")
launcher = _service(
    "launcher",
    "agent.launcherd",
    "Run the launcher: mount and start workers for the gate.",
)
