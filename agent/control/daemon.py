"""What all our daemons do alike: harden, listen, tell the service manager, end on a signal."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import NoReturn

import sdnotify
import trio

from agent.control.hardening import harden
from agent.control.server import inherited, listen
from agent.errors import VitrineError

_FIRST_PASSED_FD = 3  # sd_listen_fds(3)
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6),
               (logging.NOTSET, 7))  # fmt: skip
_ENDS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


def log_plainly() -> None:
    """Log to standard error, where journald adds time and unit; messages hold no names.

    Where it is journald that reads, each line begins with its priority (sd-daemon(3)).

    Of a thread that ends by mistake the class of the error is logged: its text may hold a path.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    if _is_journald_listening():
        logging.getLogger().handlers[0].setFormatter(_Prioritised("%(name)s: %(message)s"))
    threading.excepthook = _log_thread


def _is_journald_listening() -> bool:
    """Tell whether standard error goes to journald (systemd.exec(5), $JOURNAL_STREAM)."""
    named = os.environ.get("JOURNAL_STREAM")
    if named is None:
        return False
    stream = os.fstat(sys.stderr.fileno())
    return named == f"{stream.st_dev}:{stream.st_ino}"


class _Prioritised(logging.Formatter):
    """Lines as journald takes them: `<4>name: message` is a warning of syslog(3)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, or several, each with the priority."""
        priority = next(p for level, p in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _log_thread(args: threading.ExceptHookArgs) -> None:
    log.error("a thread has ended: %s", args.exc_type.__qualname__)


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


def run_and_vanish(serve: Callable[..., Awaitable[None]], *arguments: object) -> NoReturn:
    """Run a session's worker, then end the process without looking back.

    That is what wipes keys and content: threads that still wait for storage are not waited for.
    What went wrong is logged without a traceback, whose text may hold names.
    """
    harden()
    log_plainly()
    status = 0
    try:
        trio.run(serve, *arguments)
    except VitrineError as error:
        log.error("%s", error.message)
        status = error.exit_status
    except BaseException as error:  # noqa: BLE001 - as the docstring says
        log.error("the worker failed: %s", type(error).__qualname__)
        status = VitrineError.exit_status
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
