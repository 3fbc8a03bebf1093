"""A real mount for a test: the test is gate and launcher, a child process is the worker."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.control.messages import Failed, Message
from agent.control.session_messages import (
    Opened,
    PackKey,
    Sealed,
    Shut,
    UnsealPack,
    WorkerGrant,
    WorkerReady,
)
from agent.control.wire import BlockingConnection
from agent.crypto.packkeys import PACK_KEY_BYTES
from agent.errors import ProtocolError
from agent.launcher import mounting
from agent.model.snapshot import SnapshotInfo
from tests.fakes.tree_reader import ID_KEY, VAULT, TreeReaderFake

ROOT = Path(__file__).parents[2]
HOUR_NS = 3_600_000_000_000
PATIENCE_S = 120
DEBIAN_PYTHON = "/usr/bin/python3"  # one that every user may run, unlike one in somebody's home
PACKAGES = sysconfig.get_path("platlib")


@dataclass
class Session:
    """One mount with its worker, and the gate's end of the socket pair, heard by a thread."""

    path: Path
    worker: subprocess.Popen[bytes]
    gate: BlockingConnection
    bare: socket.socket
    log: Path
    heard: list[Message] = field(default_factory=list)
    hung_up: bool = False
    refusal: Failed | None = None
    news: threading.Condition = field(default_factory=threading.Condition)

    def hear(self) -> None:
        """Answer the worker as the gate would until it hangs up."""
        while (message := self._next()) is not None:
            if isinstance(message, UnsealPack):
                self.gate.send(self.refusal or PackKey(bytes(PACK_KEY_BYTES)))
            with self.news:
                self.heard.append(message)
                self.news.notify_all()
        with self.news:
            self.hung_up = True
            self.news.notify_all()

    def _next(self) -> Message | None:
        try:
            return self.gate.receive()
        except (ProtocolError, OSError):
            return None

    def wait_for(self, kind: type[Message]) -> bool:
        """Wait until the worker has said `kind`; tell whether it did before it hung up."""
        with self.news:
            self.news.wait_for(lambda: self.hung_up or self.said(kind), PATIENCE_S)
            return self.said(kind) > 0

    def said(self, kind: type[Message]) -> int:
        """Return how often the worker has said `kind`."""
        return sum(isinstance(message, kind) for message in self.heard)

    def shut(self) -> None:
        """Lock as the gate does, up to the point where nothing is answered or cached."""
        self.gate.send(Shut())
        assert self.wait_for(Sealed), self.log.read_text()

    def hang_up(self) -> None:
        """End as a gate that died: its end of the socket pair is gone."""
        self.bare.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the worker from answering meanwhile, and fail where the kernel had to ask it."""
        self.worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        patience = threading.Timer(PATIENCE_S, self.worker.send_signal, [signal.SIGCONT])
        patience.start()
        try:
            yield
            assert patience.is_alive(), "the kernel waited for an answer"
        finally:
            patience.cancel()
            self.worker.send_signal(signal.SIGCONT)

    def let_hours_pass(self) -> None:
        """Put the worker's clocks ahead, by more than a session lasts."""
        self.worker.send_signal(signal.SIGUSR1)

    def wait(self) -> int:
        """Return the worker's exit status."""
        return self.worker.wait(PATIENCE_S)

    def opened(self) -> dict[str, int]:
        """Return how often files were opened, by directory, as far as heard."""
        total: Counter[str] = Counter()
        for message in self.heard:
            if isinstance(message, Opened):
                total.update(message.counts)
        return total


MakeSession = Callable[..., Session]


@pytest.fixture
def make_session(tmp_path: Path) -> Iterator[MakeSession]:
    """Return a function that mounts snapshots of a reader, as the launcher and gate would."""
    made: list[Session] = []

    def make(
        reader: TreeReaderFake,
        snapshots: list[SnapshotInfo],
        *,
        uid: int = 0,
        own: bool = False,
        worker_uid: int | None = None,
        idle_s: int = 3600,
        until_ns: int = 2**62,
    ) -> Session:
        point = Path(tempfile.mkdtemp(prefix="vitrine-test-"))  # not below tmp_path, which is 0700
        point.chmod(0o755)
        if worker_uid is not None:
            os.chown(point, worker_uid, worker_uid)
        tree = tmp_path / f"tree{len(made)}"
        tree.write_bytes(pickle.dumps((reader.pages, reader.chunks)))
        fds = [] if own else [mounting.mount_fuse(point, uid, uid)]
        if not own:
            mounting.raise_read_ahead(point)
        gate, theirs = socket.socketpair()
        log = tmp_path / f"log{len(made)}"
        with log.open("wb") as stderr, tree.open("rb") as pickled:
            worker = subprocess.Popen(
                [
                    sys.executable if worker_uid is None else DEBIAN_PYTHON,
                    ROOT / "tests/fuse/session.py",
                    str(theirs.fileno()),
                    str(point) if own else str(fds[0]),
                    str(pickled.fileno()),
                ],
                pass_fds=[theirs.fileno(), pickled.fileno(), *fds],
                env={"PYTHONPATH": f"{ROOT}:{PACKAGES}", "PATH": os.environ["PATH"]},
                user=worker_uid,
                group=worker_uid,
                extra_groups=None if worker_uid is None else [],
                stderr=stderr,
            )
        theirs.close()
        for fd in fds:
            os.close(fd)
        session = Session(point, worker, BlockingConnection(gate), gate, log)
        made.append(session)
        threading.Thread(target=session.hear, daemon=True).start()
        session.gate.send(
            WorkerGrant(
                session="s",
                vault=VAULT,
                vault_name="radiology",
                id_key=ID_KEY,
                action="unlock",
                repository="/nonexistent",
                snapshots=tuple(msgspec.msgpack.encode(info) for info in snapshots),
                newest_only_until_ns=until_ns,
                ends_ns=time.time_ns() + HOUR_NS,  # noqa: TID251 - a real session
                idle_s=idle_s,
                cache_bytes=64 * 1024 * 1024,
                index_files=0,
            )
        )
        assert session.wait_for(WorkerReady), log.read_text()
        return session

    yield make
    for session in made:
        session.worker.kill()
        session.worker.wait()
        session.gate.close()
        mounting.detach(session.path)
        session.path.rmdir()


def run_as(uid: int, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as another user; what it prints comes back."""
    return subprocess.run(
        ["/usr/bin/python3", "-c", textwrap.dedent(code), *arguments],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd="/",
    )
