"""`vitrine init`: a repository, a vault, its keys, a gate with its first administrator."""

import os
import pwd
import re
from pathlib import Path

import click
import msgspec

from agent.cli.founding import (
    Administrator,
    NewVault,
    Places,
    check_vault,
    found_gate,
    found_vault,
    has_gate,
)
from agent.cli.output import json_option, print_json
from agent.cli.place import config_dir_option, first_line
from agent.cli.terminal import console
from agent.cli.users import new_password, show_enrolment, uid_of
from agent.clock import SystemClock
from agent.config import AgentConfig, SourceConfig
from agent.control.gate_messages import UserAdded
from agent.errors import ConfigInvalid
from agent.gate.administration import user_added
from agent.gate.roles import Role

MIN_PASSPHRASE = 12  # characters: it is all that stands between a copy of the disk and the archive
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SETTLE_DEFAULT = AgentConfig.__struct_defaults__[0]


class Founded(msgspec.Struct, frozen=True):
    """What `init` made; `administrator` only where the gate is new."""

    repository: str
    vault: str
    config_dir: str
    administrator: UserAdded | None


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--vault", required=True, help="Small letters, digits, '-'.")
@click.option("--department", required=True, help="Whose data it is; rights go by it.")
@click.option(
    "--source", "sources", multiple=True, required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A directory to protect; may be given several times.",
)  # fmt: skip
@click.option("--level", default=4, type=click.IntRange(1, 5), show_default=True,
              help="Sensitivity: 4 for identifiable reports (GB/T 39725-2020).")  # fmt: skip
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the recovery passphrase from the first line of this file.",
)  # fmt: skip
@click.option("--administrator", help="The first administrator's name; by default yours.")
@click.option("--administrator-uid", type=int, help="Their Unix uid, if the name is no account.")
@click.option("--administrator-role", "roles", multiple=True,
              help="By default it-administrator and auditor.")  # fmt: skip
@click.option(
    "--password-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the administrator's password from the first line of this file.",
)  # fmt: skip
@click.option("--settle-seconds", default=_SETTLE_DEFAULT, show_default=True,
              type=click.FloatRange(min=0.1),
              help="How long a source must be quiet before a snapshot.")  # fmt: skip
@json_option
@config_dir_option
def init(  # noqa: PLR0913, PLR0917 - one parameter an option
    directory: Path,
    vault: str,
    department: str,
    sources: tuple[Path, ...],
    level: int,
    passphrase_file: Path | None,
    administrator: str | None,
    administrator_uid: int | None,
    roles: tuple[str, ...],
    password_file: Path | None,
    settle_seconds: float,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Make a repository, a vault, its keys, a gate.

    The first call also makes the repository, the gate and its first administrator; later calls
    with the same --config-dir add vaults.
    """
    if not _NAME.fullmatch(vault):
        raise ConfigInvalid(f"{vault!r} is no name for a vault", hint="small letters, digits, '-'")
    clock = SystemClock()
    places = Places.of(config_dir.absolute(), directory.absolute())
    passphrase = _passphrase(passphrase_file)
    wanted = NewVault(vault, department, level, _sources(sources), passphrase)
    check_vault(places, vault, clock)
    added = None
    if not has_gate(places):
        name = administrator or pwd.getpwuid(os.geteuid()).pw_name
        uid = administrator_uid if administrator_uid is not None else uid_of(name)
        password = new_password(name, password_file)
        chosen = roles or (Role.IT_ADMINISTRATOR, Role.AUDITOR)
        first = Administrator(name, uid, chosen, department, password)
        added = user_added(found_gate(places, first, clock))
    found_vault(places, wanted, settle_seconds, clock)
    _show(Founded(str(places.repository), vault, str(places.config), added), as_json)


def _show(founded: Founded, as_json: bool) -> None:
    if as_json:
        print_json(founded)
        return
    if founded.administrator is not None:
        show_enrolment(founded.administrator, as_json)
    console.print(
        f"\nVault {founded.vault} is ready in {founded.repository}.\n"
        "Keep the recovery passphrase sealed and apart: with the repository it is enough to get\n"
        "everything back, and without it and the gate nobody can.\n\n"
        f"Next: `vitrine up --config-dir {founded.config_dir}`, or systemd (docs/systemd.md)."
    )


def _passphrase(path: Path | None) -> str:
    if path is not None:
        passphrase = first_line(path)
    else:
        text = "Recovery passphrase"
        passphrase = click.prompt(text, hide_input=True, confirmation_prompt=True, err=True)
    if len(passphrase) < MIN_PASSPHRASE:
        raise ConfigInvalid(
            f"a recovery passphrase has at least {MIN_PASSPHRASE} characters",
            hint="six random words are good, and can be written down",
        )
    return passphrase


def _sources(paths: tuple[Path, ...]) -> list[SourceConfig]:
    """Return the sources with labels: the directory's name, numbered where it is taken."""
    taken: set[str] = set()
    found = []
    for path in paths:
        absolute = path.absolute()
        if absolute.is_symlink():
            raise ConfigInvalid(
                f"the source {path} is a symbolic link", hint=f"name {absolute.resolve()} instead"
            )
        label = base = absolute.name or "root"
        number = 1
        while label in taken:
            number += 1
            label = f"{base}-{number}"
        taken.add(label)
        found.append(SourceConfig(str(absolute), label))
    return found
