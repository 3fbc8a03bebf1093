"""What a process forked to write files does from its first moment to its last."""

import ctypes
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable
from typing import NoReturn

from agent.control.messages import Failed
from agent.errors import VitrineError
from agent.restore.parcel import receive_batch, send_answer
from agent.restore.tally import Done
from agent.restore.work import FileWork

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GC_EVERY = 50_000  # new objects that may be garbage: a batch makes few cycles, and many tuples

log = logging.getLogger(__name__)


def serve_and_vanish(
    parent: int,
    connected: socket.socket,
    others: Iterable[socket.socket],
    new_work: Callable[[], FileWork],
) -> NoReturn:
    """Write the batches that come, until there are no more; then end, and nothing of the parent's.

    To be called in a process just forked by `parent`, with SIGINT blocked.  `others` are ends of
    socket pairs that came with the fork: kept open, they would hide that the parent hangs up.
    """
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent tells what it means
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _die_with(parent)
        for other in others:
            other.close()
        gc.freeze()  # what came with the fork stays, and stays shared
        gc.set_threshold(_GC_EVERY)
        _serve(connected, new_work())
        status = 0
    except BaseException as error:  # noqa: BLE001 - there is no way back into the parent's code
        log.error("a process that writes files failed: %s", type(error).__qualname__)
    finally:
        os._exit(status)


def _serve(connected: socket.socket, work: FileWork) -> None:
    while (items := receive_batch(connected)) is not None:
        try:
            answer: Done | Failed = work.batch(items)
        except VitrineError as error:
            answer = Failed(type(error).__name__, error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - the parent raises it; its text may hold names
            answer = Failed("VitrineError", f"files could not be written: {type(error).__name__}")
        for descriptor in {item.at.descriptor for item in items}:
            os.close(descriptor)
        try:
            send_answer(connected, answer)
        except ConnectionError:
            return  # the parent has ended the restore


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError("the parent has ended already")
