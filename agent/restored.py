"""The worker of one restore: wiring, nothing else.

    python -m agent.restored --gate-fd N --target-fd M

The grant comes over descriptor N, the target is descriptor M; nothing else is known or asked for.
"""

import argparse
import logging
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import trio

from agent.clock import SystemClock
from agent.control.connection import Connection
from agent.control.daemon import run_and_vanish
from agent.control.messages import Failed
from agent.control.session_messages import (
    Sealed,
    WorkerGrant,
    WorkerProgress,
    WorkerReady,
    WorkerResult,
)
from agent.control.wire import BlockingConnection
from agent.control.worker import GateLine, LentIndex, receive_grant
from agent.crypto.naming import IdKey
from agent.errors import SessionExpired, VitrineError
from agent.model.snapshot import SnapshotInfo
from agent.repository import choose
from agent.repository.frames import FrameReader
from agent.repository.index import Index
from agent.repository.reader import VaultReader
from agent.restore.plan import select
from agent.restore.run import restore
from agent.restore.tally import Outcome
from agent.store.local import LocalStore

STOP_GRACE_S = 2.0  # after the session's end: a thread that waits for storage is not waited for

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Restore, then end the process without looking back: that wipes keys and content."""
    options = _options(arguments)
    run_and_vanish(serve, options.gate_fd, options.target_fd)


async def serve(gate_fd: int, target_fd: int) -> None:
    """Restore what the gate grants on one descriptor into the directory on the other."""
    with socket.socket(fileno=gate_fd) as gate:
        grant, lent = receive_grant(BlockingConnection(gate))
        line = GateLine(Connection.over(gate))
        failure = await _restored(grant, lent, target_fd, line)
    if failure is not None:
        raise failure


async def _restored(
    grant: WorkerGrant, lent: list[LentIndex], target_fd: int, line: GateLine
) -> VitrineError | None:
    """Restore, and tell the gate how it ended; return what ended it early."""
    failure: VitrineError | None = SessionExpired("the session ended before the restore did")
    ended = threading.Event()
    work = _Restore(grant, lent, target_fd, line, ended)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, line, ended, nursery.cancel_scope)
        try:
            await line.tell(WorkerReady())
            outcome = await trio.to_thread.run_sync(
                work.run, limiter=trio.CapacityLimiter(1), abandon_on_cancel=True
            )
        except VitrineError as error:
            failure = error  # raised outside: a nursery would wrap it
            await _farewell(line, Failed(type(error).__name__, error.message, error.hint))
        else:
            failure = None
            await _farewell(line, WorkerResult(outcome.files, outcome.bytes, outcome.failed))
        nursery.cancel_scope.cancel()
    return failure


async def _watch(line: GateLine, ended: threading.Event, scope: trio.CancelScope) -> None:
    """End the restore with the session: between two stretches of bytes, or soon without asking."""
    why = await line.receive()
    ended.set()
    log.info("the restore ends: %s", why)
    await trio.sleep(STOP_GRACE_S)
    scope.cancel()


async def _farewell(line: GateLine, last: Failed | WorkerResult) -> None:
    try:
        await line.tell(last)
        await line.tell(Sealed())
    except SessionExpired:
        log.info("the gate had gone before the restore ended")


class _Restore:
    """One restore, in a thread of its own."""

    def __init__(
        self,
        grant: WorkerGrant,
        lent: list[LentIndex],
        target: int,
        line: GateLine,
        ended: threading.Event,
    ) -> None:
        self._grant = grant
        self._lent = lent
        self._target = target
        self._line = line
        self._ended = ended
        self._clock = SystemClock()
        self._token = trio.lowlevel.current_trio_token()

    def run(self) -> Outcome:
        """Restore; raises what ends it early."""
        grant = self._grant
        store = LocalStore(Path(grant.repository))
        frames = FrameReader(store, grant.vault, self._line, cache_bytes=grant.cache_bytes)
        reader = VaultReader(frames, Index.lent(self._lent), IdKey(grant.id_key))
        return restore(
            select(reader, self._root(), grant.paths),
            reader,
            self._target,
            clock=self._clock,
            stopped=self._stopped,
            on_progress=self._tell,
        )

    def _root(self) -> bytes:
        """Return the root of the newest snapshot granted."""
        known = [msgspec.msgpack.decode(raw, type=SnapshotInfo) for raw in self._grant.snapshots]
        until_ns = self._grant.newest_only_until_ns
        granted = [info for info in known if info.snapshot.taken_ns <= until_ns]
        return choose.newest(granted).snapshot.root

    def _stopped(self) -> bool:
        # the gate ends sessions; the clock is for when it does not
        return self._ended.is_set() or self._clock.now_ns() >= self._grant.ends_ns

    def _tell(self, done_bytes: int, total_bytes: int, done_files: int) -> None:
        message = WorkerProgress(done_bytes, total_bytes, done_files)
        trio.from_thread.run(self._line.tell, message, trio_token=self._token)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vitrine-restore", description=__doc__)
    parser.add_argument("--gate-fd", type=int, required=True)
    parser.add_argument("--target-fd", type=int, required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
