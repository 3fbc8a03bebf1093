"""Where this installation is: the configuration directory, and the sockets it names."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.config import ClientConfig, load
from agent.control.client import call
from agent.control.gate_messages import Factors
from agent.control.messages import Message, Progress
from agent.errors import ConfigInvalid, ProtocolError, ServiceNotRunning

DEFAULT = Path("/etc/vitrine")
_NO_LOGIN = 2**32 - 1  # of a service, or a container without logins: proc(5)
_VARIABLE = "VITRINE_CONFIG_DIR"


Answer = TypeVar("Answer", bound=Message)
_Command = Callable[..., Any]


def config_dir_option(command: _Command) -> _Command:
    """Add `--config-dir`, by default $VITRINE_CONFIG_DIR or /etc/vitrine."""
    option = click.option(
        "--config-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: Path(os.environ.get(_VARIABLE, DEFAULT)),
        show_default=f"${_VARIABLE} or {DEFAULT}",
        help="Where `vitrine init` put the configuration.",
    )
    return option(command)


def client(config_dir: Path) -> ClientConfig:
    """Return what client.toml says; raise ConfigInvalid where there is none."""
    return load(config_dir / "client.toml", ClientConfig)


def caller() -> str:
    """Return who gave a command that needs root: the login's name, through sudo as well."""
    try:
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = _NO_LOGIN
    uid = int(os.environ.get("SUDO_UID", os.getuid())) if login == _NO_LOGIN else login
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def ask_gate(
    config_dir: Path,
    request: Message,
    answer: type[Answer],
    on_progress: Callable[[Progress], None] | None = None,
) -> Answer:
    """Return the gate's answer."""
    return _ask(client(config_dir).gate_socket, "gate", request, answer, on_progress)


def ask_agent(
    config_dir: Path,
    request: Message,
    answer: type[Answer],
    on_progress: Callable[[Progress], None] | None = None,
) -> Answer:
    """Return the agent's answer."""
    return _ask(client(config_dir).agent_socket, "agent", request, answer, on_progress)


def factor_options(command: _Command) -> _Command:
    """Add `--password-file` and `--otp`, for use without a terminal."""
    password = click.option(
        "--password-file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Read the password from the first line of this file.",
    )
    otp = click.option("--otp", help="The token's code, or a recovery code.")
    return password(otp(command))


def ask_factors(password_file: Path | None, otp: str | None, whose: str = "") -> Factors:
    """Return the caller's two factors: from the options, else asked for."""
    if password_file is None:
        password = click.prompt(f"{whose}password".capitalize(), hide_input=True, err=True)
    else:
        password = first_line(password_file)
    if otp is None:
        otp = click.prompt(f"{whose}token (authenticator app)".capitalize(), err=True)
    return Factors(password, otp)


def first_line(path: Path) -> str:
    """Return the first line of a secret's file, without its end; raise ConfigInvalid if empty."""
    try:
        line = path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(
            f"{path} cannot be read as a secret", hint="it is one line of UTF-8 text"
        ) from error
    if not line:
        raise ConfigInvalid(
            f"{path} is empty", hint="write the secret into its first line, without quotes"
        )
    return line


def _ask(
    socket: str,
    service: str,
    request: Message,
    answer: type[Answer],
    on_progress: Callable[[Progress], None] | None,
) -> Answer:
    if not socket:
        raise ServiceNotRunning(
            f"this host has no {service}", hint=f"ask on the host where the {service} runs"
        )
    reply = call(socket, request, on_progress, service=service)
    if not isinstance(reply, answer):
        raise ProtocolError(f"the {service} answered with a {type(reply).__name__}")
    return reply
