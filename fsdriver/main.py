"""The worker of one session: wiring, nothing else.

    python -m fsdriver --gate-fd N --fuse-fd M     mounted already, by the launcher
    python -m fsdriver --gate-fd N --mount DIR     mounts by itself, through fusermount3

The grant comes over descriptor N; nothing else is known or asked for.
"""

import argparse
import ctypes
import gc
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from agent.clock import SystemClock
from agent.control.connection import Connection
from agent.control.daemon import run_and_vanish
from agent.control.server import failure
from agent.control.wire import BlockingConnection
from agent.control.worker import receive_grant
from agent.crypto.naming import IdKey
from agent.errors import VitrineError
from agent.repository.frames import FrameReader
from agent.repository.index import Index
from agent.repository.reader import VaultReader
from agent.store.local import LocalStore
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.session import serve_session

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_ARENAS = 2
_MMAP_FROM_BYTES = 1024 * 1024  # most frames come from the heap: fresh pages cost a tenth of a read
_TRIM_FROM_BYTES = 32 * 1024 * 1024  # or the next frames touch fresh pages again
_COLLECT_AFTER = 50_000  # objects more than before: frames and pages die without the collector
_FRAMES_SHARE = 5 / 8  # of the memory granted; an eighth is what the heap's holes take
# How long a request of the kernel's waits for a thread that reads ahead to let the interpreter go:
# by default 5 ms, which is a hundred answers
_SWITCH_S = 0.00002

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve one session, then end the process without looking back: that wipes keys and content."""
    options = _options(arguments)
    _bound_heap()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    run_and_vanish(_serve, options)


async def _serve(options: argparse.Namespace) -> None:
    gate = socket.socket(fileno=options.gate_fd)
    grant, lent = receive_grant(BlockingConnection(gate))
    index = Index.lent(lent)
    connection = Connection.over(gate)
    clock = SystemClock()
    gatekeeper = Gatekeeper(connection, clock)
    try:
        frames = FrameReader(
            LocalStore(Path(grant.repository)),
            grant.vault,
            gatekeeper,
            cache_bytes=int(grant.cache_bytes * _FRAMES_SHARE),
        )
        reader = VaultReader(frames, index, IdKey(grant.id_key))
        await serve_session(grant, reader, gatekeeper, options.mount or options.fuse_fd, clock)
    except VitrineError as error:
        await connection.send(failure(error))  # the gate tells who waits for the mount
        raise


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vitrine-worker", description=__doc__)
    parser.add_argument("--gate-fd", type=int, required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fuse-fd", type=int, default=-1)
    where.add_argument("--mount", default="")
    return parser.parse_args(arguments)


def _bound_heap() -> None:
    """Give freed frames back: each is up to 4 MiB, made in one thread and freed in another.

    Reading 750 MB with a cache of 192 MiB took 473 MB without any of this.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, _ARENAS)
    libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_FROM_BYTES)
