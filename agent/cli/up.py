"""`vitrine up`: agent, gate and launcher as children of one foreground command.

For a demo, for tests, and for a single machine without systemd.  One Ctrl-C ends all: the gate
first, which shuts every session while the launcher can still unmount.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import trio

from agent.cli.place import config_dir_option
from agent.cli.terminal import console
from agent.config import AgentConfig, GateConfig, LauncherConfig, load
from agent.errors import ConfigInvalid, ServiceNotRunning

_READY_S = 60.0
_PATIENCE_S = 20.0  # what systemd's TimeoutStopSec gives a service too, roughly
_POLL_S = 0.05
_ORDER = ("launcher", "gate", "agent")  # started in this order, ended gate first
_READ: dict[str, Callable[[Path], AgentConfig | GateConfig | LauncherConfig]] = {
    "launcher": partial(load, kind=LauncherConfig),
    "gate": partial(load, kind=GateConfig),
    "agent": partial(load, kind=AgentConfig),
}
_END_ORDER = ("gate", "agent", "launcher")


class _Child(NamedTuple):
    """A service that runs, and the descriptor that is readable once it has ended."""

    service: str
    process: subprocess.Popen[bytes]
    pidfd: int

    async def ended(self) -> int:
        """Wait for its end; return its status."""
        await trio.lowlevel.wait_readable(self.pidfd)
        return self.process.wait()


@click.command()
@config_dir_option
def up(config_dir: Path) -> None:
    """Run agent, gate and launcher here, until Ctrl-C."""
    services = [s for s in _ORDER if (config_dir / f"{s}.toml").is_file()]
    if not services:
        raise ConfigInvalid(
            f"{config_dir} holds no agent.toml, gate.toml or launcher.toml",
            hint="make them with `vitrine init`",
        )
    for service in services:
        socket_of(config_dir, service)  # a mistake in any file is told before anything starts
    trio.run(_run, config_dir, services)


async def _run(config_dir: Path, services: list[str]) -> None:
    """Start the services in order, wait for a signal or a death, end them in order."""
    children: list[_Child] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        try:
            for service in services:
                children.append(start(config_dir, service))
                await _listening(config_dir, children[-1])
            console.print(f"Vitrine is up: {', '.join(services)}.  Ctrl-C ends it.")
            await _until_signal_or_death(signals, children)
        finally:
            with trio.CancelScope(shield=True):
                await _end(children)


def start(config_dir: Path, service: str) -> _Child:
    """Start a service that dies with this process, even if this process is killed.

    Not through trio: it starts processes from a thread that it lets go after ten idle seconds,
    and a parent's death is, to prctl(2), that of the thread that started the child.
    """
    with_us = ("setpriv", "--pdeathsig", "TERM")
    command = (sys.executable, "-m", "agent.cli", service)
    arguments = ("--config", str(config_dir / f"{service}.toml"))
    process = subprocess.Popen(
        [*with_us, *command, *arguments],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: the order of ending matters
    )
    return _Child(service, process, os.pidfd_open(process.pid))


async def _listening(config_dir: Path, child: _Child) -> None:
    """Wait until the service answers at its socket."""
    path = socket_of(config_dir, child.service)
    with trio.move_on_after(_READY_S):
        while not _answers(path):
            if child.process.poll() is not None:
                raise ServiceNotRunning(
                    f"the {child.service} ended with status {child.process.returncode}",
                    hint="what it said is above",
                )
            await trio.sleep(_POLL_S)
        return
    raise ServiceNotRunning(f"the {child.service} does not answer at {path}")


def socket_of(config_dir: Path, service: str) -> Path:
    """Return the socket that a service's configuration names; raise ConfigInvalid."""
    return Path(_READ[service](config_dir / f"{service}.toml").socket)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


async def _until_signal_or_death(signals: AsyncIterator[int], children: list[_Child]) -> None:
    async with trio.open_nursery() as nursery:

        async def watch(child: _Child) -> None:
            status = await child.ended()
            raise ServiceNotRunning(
                f"the {child.service} ended with status {status}", hint="what it said is above"
            )

        for child in children:
            nursery.start_soon(watch, child)
        async for _ in signals:
            break
        nursery.cancel_scope.cancel()


async def _end(children: list[_Child]) -> None:
    by_service = {child.service: child for child in children}
    for service in _END_ORDER:
        child = by_service.get(service)
        if child is None:
            continue
        if child.process.poll() is None:
            child.process.terminate()
            with trio.move_on_after(_PATIENCE_S):
                await child.ended()
        if child.process.poll() is None:
            child.process.kill()
            await child.ended()
        os.close(child.pidfd)
