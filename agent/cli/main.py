"""`vitrine`: finds the command, and turns every error into a message and an exit status."""

import gc
import importlib
import logging
import os
import sys

import click

from agent.errors import VitrineError

# name → module and attribute; a module is imported when its command runs, so that
# `vitrine status` does not wait for what only `vitrine demo` needs
_COMMANDS = {
    "init": ("agent.cli.init", "init"),
    "up": ("agent.cli.up", "up"),
    "agent": ("agent.cli.services", "agent"),
    "gate": ("agent.cli.services", "gate"),
    "launcher": ("agent.cli.services", "launcher"),
    "snapshot": ("agent.cli.snapshot", "snapshot"),
    "status": ("agent.cli.status", "status"),
    "snapshots": ("agent.cli.snapshots", "snapshots"),
    "timeline": ("agent.cli.timeline", "timeline"),
    "canary": ("agent.cli.canary", "canary"),
    "ls": ("agent.cli.browse", "ls"),
    "find": ("agent.cli.browse", "find"),
    "diff": ("agent.cli.diff", "diff"),
    "user": ("agent.cli.users", "user"),
    "unlock": ("agent.cli.unlock", "unlock"),
    "lock": ("agent.cli.unlock", "lock"),
    "sessions": ("agent.cli.sessions", "sessions"),
    "restore": ("agent.cli.restore", "restore"),
    "recover": ("agent.cli.recover", "recover"),
    "maintain": ("agent.cli.maintain", "maintain"),
    "retention": ("agent.cli.retention", "retention"),
    "hold": ("agent.cli.hold", "hold"),
    "prune": ("agent.cli.prune", "prune"),
    "drill": ("agent.cli.drill", "drill"),
    "verify": ("agent.cli.verify", "verify"),
    "repair": ("agent.cli.repair", "repair"),
    "parity": ("agent.cli.repair", "parity"),
    "copy": ("agent.cli.copy", "copy"),
    "audit": ("agent.cli.audit", "audit"),
    "demo": ("agent.cli.demo", "demo"),
}
_INTERRUPTED = 130  # what a shell expects after Ctrl-C
_UNTOLD = 80  # columns of a terminal that does not tell
_INTERNAL = 70  # EX_SOFTWARE of sysexits.h


class _Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, which is the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if not gc.isenabled():
            gc.freeze()  # what is loaded stays to the end: never to be looked at again
            gc.enable()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vitrine", prog_name="vitrine")
def vitrine() -> None:
    """Continuous, encrypted backup with its history behind glass."""


def main() -> None:
    """Run the command line and exit with its status (docs/exit-codes.md)."""
    gc.disable()  # loading leaves no garbage: `get_command` has it collected from then on
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit status of one command; what goes wrong is told on standard error."""
    try:
        status = vitrine.main(arguments, prog_name="vitrine", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("vitrine: interrupted", err=True)
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the latter is what click makes of the former
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` is no error
        return 0
    except Exception as error:  # noqa: BLE001 - the edge: nobody should meet a traceback
        return _failed(error)
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if os.environ.get("VITRINE_DEBUG"):
        raise error
    if isinstance(error, VitrineError):
        _tell("vitrine: ", error.message)
        if error.hint:
            _tell("         ", error.hint)
        return error.exit_status
    click.echo(
        f"vitrine: internal error ({type(error).__name__})\n"
        "         run it again with VITRINE_DEBUG=1 and report what it prints",
        err=True,
    )
    return _INTERNAL


def _tell(lead: str, text: str) -> None:
    """Print on standard error; a terminal gets lines that end between words."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns or _UNTOLD
        click.echo(click.wrap_text(text, width, lead, " " * len(lead)), err=True)
    else:
        click.echo(lead + text, err=True)
