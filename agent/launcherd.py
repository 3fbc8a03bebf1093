"""The launcher as a process: wiring, nothing else."""

import os
import pwd
from functools import partial
from pathlib import Path

import trio

from agent.config import LauncherConfig, load
from agent.control.daemon import Notifier, listener_at, log_plainly, until_signal
from agent.errors import ConfigInvalid
from agent.launcher.service import Settings
from agent.launcher.service import run as serve
from agent.launcher.workers import Account

SOCKET_MODE = 0o600
_RUNTIME_MODE = 0o755


def run(path: Path) -> None:
    """Run the launcher that `path` configures, until a signal."""
    log_plainly()
    config = load(path, LauncherConfig)
    # users find their mounts below it
    Path(config.runtime_dir).mkdir(mode=_RUNTIME_MODE, parents=True, exist_ok=True)
    trio.run(until_signal, partial(_serve, config))


async def _serve(config: LauncherConfig) -> None:
    gate_uid = _account(config.gate_user).uid if config.gate_user else os.geteuid()
    worker = _account(config.worker_user) if config.worker_user else None
    mode = SOCKET_MODE if gate_uid == os.geteuid() else 0o666  # who is heard is decided inside
    listener = await listener_at(config.socket, mode)
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listener, Settings(Path(config.runtime_dir), gate_uid, worker))
        notifier.ready("mounts for the gate")
        nursery.start_soon(notifier.keep_alive, trio.lowlevel.checkpoint)


def _account(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigInvalid(f"launcher.toml names {name!r}, which is no account here") from None
    return Account(entry.pw_uid, entry.pw_gid)
