"""A worker over the fake reader: `python session.py GATE_FD FUSE_FD|MOUNT_DIR PICKLE_FD`.

Everything but the repository below is the real worker's: hardening, gate, lock, mount.
"""

import logging
import os
import pickle
import signal
import socket
import sys
import threading

import trio

from agent.clock import SystemClock
from agent.control.connection import Connection
from agent.control.session_messages import WorkerGrant
from agent.control.wire import BlockingConnection
from agent.crypto.packkeys import PACK_KEY_BYTES
from agent.model.ids import PackId
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.session import serve_session
from tests.fakes.tree_reader import TreeReaderFake

BROKEN = b"raise KeyError"
STUCK = b"storage that does not answer"


class SteppedClock(SystemClock):
    """The clock of this machine, on which hours pass at a signal (SIGUSR1)."""

    STEP_S = 2 * 3600

    def __init__(self) -> None:
        """Listen for the signal."""
        self._ahead_s = 0
        signal.signal(signal.SIGUSR1, lambda *_: self._step())

    def _step(self) -> None:
        self._ahead_s += self.STEP_S

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC."""
        return super().now_ns() + self._ahead_s * 1_000_000_000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return super().monotonic() + self._ahead_s


class GatedReader(TreeReaderFake):
    """Asks the gate for a pack's key before the first chunk, as a real reader does."""

    gatekeeper: Gatekeeper | None = None

    def chunk(self, chunk_id: bytes) -> memoryview:
        """Return a chunk, but fail as no code should, or never come back, where a test wants so."""
        if self.gatekeeper is not None:
            key = self.gatekeeper.pack_key(PackId(bytes(32)), b"preamble")
            assert len(key) == PACK_KEY_BYTES
            self.gatekeeper = None
        if self.chunks[chunk_id].startswith(BROKEN):
            raise KeyError("Doe^Jane")
        if self.chunks[chunk_id].startswith(STUCK):
            threading.Event().wait()
        return super().chunk(chunk_id)


async def run(gate_fd: int, at: str, reader: GatedReader) -> None:
    """Serve until locked."""
    gate = socket.socket(fileno=gate_fd)
    grant = BlockingConnection(gate).receive()
    assert isinstance(grant, WorkerGrant)
    clock = SteppedClock()
    reader.gatekeeper = gatekeeper = Gatekeeper(Connection.over(gate), clock)
    await serve_session(grant, reader, gatekeeper, int(at) if at.isdigit() else at, clock)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    stored = GatedReader()
    with os.fdopen(int(sys.argv[3]), "rb") as tree:
        stored.pages, stored.chunks = pickle.load(tree)  # noqa: S301 - ours
    trio.run(run, int(sys.argv[1]), sys.argv[2], stored)
    os._exit(0)
