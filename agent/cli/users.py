"""`vitrine user`: who may come to the gate, with which roles."""

import pwd
import sys
from pathlib import Path

import click
import segno

from agent.cli.output import ago, json_option, print_json
from agent.cli.place import ask_factors, ask_gate, config_dir_option, factor_options, first_line
from agent.cli.terminal import console, table
from agent.control.gate_messages import AddUser, AskUsers, DisableUser, UserAdded, Users
from agent.control.messages import Done
from agent.errors import ConfigInvalid


@click.group()
def user() -> None:
    """Add, list and disable people."""


@user.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="May be given several times.")
@click.option("--department", required=True)
@click.option("--uid", type=int, help="The Unix uid, if NAME is no account of this machine.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the new user's password from the first line of this file.",
)
@click.option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read your own password from the first line of this file.",
)
@click.option("--admin-otp", help="Your own token's code.")
@json_option
@config_dir_option
def add(  # noqa: PLR0913, PLR0917 - one parameter an option
    name: str,
    roles: tuple[str, ...],
    department: str,
    uid: int | None,
    password_file: Path | None,
    admin_password_file: Path | None,
    admin_otp: str | None,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Add NAME.

    Prints what enrols the token, once: a QR code and the otpauth URI.  You
    prove who you are with your own password and token first.
    """
    number = uid if uid is not None else uid_of(name)
    factors = ask_factors(admin_password_file, admin_otp, whose="Your own ")
    password = new_password(name, password_file)
    request = AddUser(name, number, roles, department, password, factors)
    show_enrolment(ask_gate(config_dir, request, UserAdded), as_json)


@user.command("list")
@json_option
@config_dir_option
def list_users(as_json: bool, config_dir: Path) -> None:
    """List who is known, with which roles, and when they last came."""
    answer = ask_gate(config_dir, AskUsers(), Users)
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            u.name,
            str(u.uid),
            ", ".join(u.roles),
            u.department,
            u.state,
            ago(u.last_used_ns) if u.last_used_ns else "never",
        )
        for u in answer.users
    ]
    table(
        ("NAME", "UID", "ROLES", "DEPARTMENT", "STATE", "LAST USED"),
        rows,
        right="UID",
        long="ROLES",
    )


@user.command()
@click.argument("name")
@factor_options
@config_dir_option
def disable(name: str, password_file: Path | None, otp: str | None, config_dir: Path) -> None:
    """Take NAME's rights away, and shut their sessions at once."""
    ask_gate(config_dir, DisableUser(name, ask_factors(password_file, otp)), Done)
    console.print(f"{name} is disabled; their sessions are shut.")


def uid_of(name: str) -> int:
    """Return the uid of a Unix account; raise ConfigInvalid where there is none."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigInvalid(
            f"this machine has no account {name!r}",
            hint="make one with `adduser`, or give --uid",
        ) from None


def new_password(name: str, path: Path | None) -> str:
    """Return the password for a new user, from the file or asked for twice."""
    if path is not None:
        return first_line(path)
    text = f"New password for {name}"
    chosen: str = click.prompt(text, hide_input=True, confirmation_prompt=True, err=True)
    return chosen


def show_enrolment(added: UserAdded, as_json: bool) -> None:
    """Print what enrols the token: this is the only time that it can be seen."""
    if as_json:
        print_json(added)
        return
    console.print(f"{added.name} is added. Scan this with an authenticator app now;")
    console.print("it is not shown again.\n")
    segno.make(added.otpauth, error="l").terminal(out=sys.stdout, compact=True, border=2)
    console.print(f"\n  {added.otpauth}", soft_wrap=True)
    if added.recovery_codes:
        console.print("\nRecovery codes, each good once in place of a token code; print them:")
        console.print("  " + "  ".join(added.recovery_codes))
