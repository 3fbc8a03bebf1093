"""What all our daemons do alike: harden, listen, tell the service manager, end on a signal."""

import ctypes
import logging
import os
import resource
import signal
from collections.abc import Awaitable, Callable

import sdnotify
import trio

from agent.control.server import inherited, listen

_PR_SET_DUMPABLE = 4  # prctl(2)
_FIRST_PASSED_FD = 3  # sd_listen_fds(3)
_ENDS = (signal.SIGTERM, signal.SIGINT)


def harden() -> None:
    """No core dump, no debugger of the same user, no file readable by others."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def log_plainly() -> None:
    """Log to standard error, where journald adds time and unit; messages hold no names."""
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
    )


async def listener_at(path: str, mode: int) -> trio.SocketListener:
    """Return the socket that the service manager passed, else one made at `path`."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return inherited(_FIRST_PASSED_FD)
    return await listen(path, mode)


class Notifier:
    """Tells systemd how we are; outside systemd nobody hears it."""

    def __init__(self) -> None:
        """Look for $NOTIFY_SOCKET."""
        self._notifier = sdnotify.SystemdNotifier()
        period_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._ping_s = period_us / 1_000_000 / 3  # three chances a period

    def ready(self, status: str) -> None:
        """Say that requests are answered; `status` holds no names."""
        self._notifier.notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._notifier.notify("STOPPING=1")

    async def keep_alive(self, check: Callable[[], Awaitable[None]]) -> None:
        """Ping the watchdog as long as `check` passes; what it raises ends the daemon."""
        if not self._ping_s:
            return
        while True:
            await check()
            self._notifier.notify("WATCHDOG=1")
            await trio.sleep(self._ping_s)


async def until_signal(
    body: Callable[[], Awaitable[None]],
    on_hangup: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run `body` until SIGTERM or SIGINT, then cancel it; its own end ends this as well.

    SIGHUP calls `on_hangup`, as `systemctl reload` expects; without one it is ignored.
    """
    with trio.open_signal_receiver(*_ENDS, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await body()
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                if on_hangup is not None:
                    await on_hangup()
            nursery.cancel_scope.cancel()
