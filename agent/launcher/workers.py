"""A worker's life: its descriptors, its process, its mount, and its end."""

import logging
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from agent.errors import MountFailed, ProtocolError
from agent.launcher import mounting

SEALED_GRACE_S = 5.0  # a worker that has sealed ends within milliseconds of its mount
TERM_GRACE_S = 5.0  # one that is asked to end must first invalidate: 0.4 s a 100,000 inodes
MAX_POINTS = 100  # mounts of one vault by one user at once
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# what restoring takes: owners, modes, devices, capabilities and flags of files; no more
_RESTORE_CAPABILITIES = "chown,dac_override,fowner,fsetid,mknod,setfcap,linux_immutable"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a worker runs as."""

    uid: int
    gid: int


@dataclass(slots=True)
class Worker:
    """One session's process and, unless it restores, its mount point."""

    process: trio.Process
    point: Path | None = None
    ending: bool = False


def make_point(runtime: Path, uid: int, vault: str, *, private: bool) -> Path:
    """Return a new mount point `runtime/USER/VAULT`, numbered where that one is in use."""
    if not _SAFE_NAME.fullmatch(vault):
        raise ProtocolError("a vault's name does not do as a directory's")
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    parent = runtime / user
    parent.mkdir(mode=0o700 if private else 0o711, parents=True, exist_ok=True)
    for number in range(1, MAX_POINTS + 1):
        point = parent / (vault if number == 1 else f"{vault}-{number}")
        with suppress(FileExistsError):
            point.mkdir(mode=0o700)
            return point
    raise MountFailed("too many mounts of one vault by one user", hint="lock some of them")


def remove_left_overs(runtime: Path) -> None:
    """Detach the mounts, and remove the mount points, of a launcher that died."""
    left = mounting.mounts_below(runtime)
    for mounted in left:
        mounting.detach(Path(os.fsdecode(mounted.point)))
    if left:  # their workers may have died with plaintext in the page cache
        mounting.drop_page_cache()
        log.warning("%d mounts of an earlier launcher were detached", len(left))
    for point in runtime.glob("*/*"):
        with suppress(OSError):
            point.rmdir()


async def start_mounted(gate_fd: int, fuse_fd: int, account: Account | None) -> trio.Process:
    """Start a worker on a mount that exists."""
    command = [*_python("fsdriver"), "--gate-fd", str(gate_fd), "--fuse-fd", str(fuse_fd)]
    return await spawn(command, (gate_fd, fuse_fd), account)


async def start_mounting(gate_fd: int, point: Path) -> trio.Process:
    """Start a worker that mounts by itself, through fusermount3."""
    command = [*_python("fsdriver"), "--gate-fd", str(gate_fd), "--mount", str(point)]
    return await spawn(command, (gate_fd,), None)


async def start_restoring(gate_fd: int, target_fd: int, *, privileged: bool) -> trio.Process:
    """Start a restore worker: root without most of root's powers, or whoever we are."""
    command = [*_python("agent.restored"), "--gate-fd", str(gate_fd), "--target-fd", str(target_fd)]
    if privileged:
        bounds = "-all," + ",".join(f"+{name}" for name in _RESTORE_CAPABILITIES.split(","))
        command = ["setpriv", "--bounding-set", bounds, "--no-new-privs", "--", *command]
    return await spawn(command, (gate_fd, target_fd), None)


async def stop(worker: Worker, *, sealed: bool) -> None:
    """End a worker and its mount; returns when both are gone.

    One that has `sealed` is unmounted first, which ends it.  Another is asked to lock, since
    unmounting first would leave plaintext in the page cache.
    """
    worker.ending = True
    with trio.CancelScope(shield=True):
        if sealed:
            await unmount(worker)
            with trio.move_on_after(SEALED_GRACE_S):
                await worker.process.wait()
        if worker.process.returncode is None:
            worker.process.terminate()
            with trio.move_on_after(TERM_GRACE_S):
                await worker.process.wait()
        if worker.process.returncode is None:
            log.error("a worker did not end when asked and was killed")
            worker.process.kill()
            await worker.process.wait()
        await clear(worker)


async def clear(worker: Worker) -> None:
    """Remove what an ended worker leaves; one that failed could not empty the kernel's caches."""
    await unmount(worker)
    if worker.point is None:
        return
    if worker.process.returncode:
        await trio.to_thread.run_sync(mounting.drop_page_cache)
    remove(worker.point)


async def unmount(worker: Worker) -> None:
    """Unmount lazily, if it is mounted."""
    if worker.point is None:
        return
    if os.geteuid() == 0:
        mounting.detach(worker.point)
    elif worker.process.returncode is not None:  # alive, it unmounts by itself
        await trio.run_process(
            ["fusermount3", "-u", "-z", "-q", str(worker.point)],
            stderr=subprocess.DEVNULL,
            check=False,
        )


def remove(point: Path) -> None:
    """Remove a mount point."""
    with suppress(OSError):  # left over only until the next start
        point.rmdir()


def _python(module: str) -> list[str]:
    return [sys.executable, "-I", "-m", module]  # -I: neither environment nor directory is trusted


async def spawn(
    command: Sequence[str], fds: Sequence[int], account: Account | None
) -> trio.Process:
    """Start a program with these descriptors and nothing else of ours, as `account` if given."""
    return await trio.lowlevel.open_process(
        list(command),
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
        umask=0o077,
        start_new_session=True,  # Ctrl-C ends sessions through the gate, in order
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
