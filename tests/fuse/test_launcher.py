"""The launcher: whom it hears, what it starts, and that nothing of a session stays."""

import ast
import errno
import os
import signal
import socket
import tempfile
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from agent.control import asyncclient, server
from agent.control.gate_messages import AskSessions
from agent.control.messages import Done, Failed, Message
from agent.control.session_messages import (
    EndSession,
    PackKey,
    Sealed,
    SessionGone,
    Shut,
    Started,
    StartMount,
    StartRestore,
    UnsealPack,
    WorkerGrant,
    WorkerReady,
)
from agent.control.wire import BlockingConnection
from agent.errors import AccessDenied, ProtocolError, RestoreRefused, ServiceNotRunning
from agent.launcher import Settings, mounting, run, workers
from agent.launcher.target import open_target
from agent.launcher.workers import Account
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.store.local import LocalStore
from tests.fakes.restores import HandMade
from tests.fakes.vaults import Vault, make_vault, snapshots
from tests.fuse.conftest import HOUR_NS, PATIENCE_S, run_as

pytestmark = [pytest.mark.root, pytest.mark.fuse]

USER = 1000
CONTENT = b"Doe^Jane" * 50_000


@dataclass(frozen=True)
class Stored:
    """A vault in the directory `repository` below `scratch`."""

    scratch: Path
    store: LocalStore
    vault: Vault

    def lend(self) -> list[int]:
        """Return descriptors of the index files."""
        keys = self.vault.secrets.reader()
        cache = IndexCache(self.scratch / "lent", self.store, keys.vault, keys.index())
        cache.refresh()
        return cache.descriptors()


class Gate:
    """A gate's end of one worker's socket pair, heard by a thread."""

    def __init__(self, stored: Stored, **changes: object) -> None:
        """Make the pair; `changes` are to the grant."""
        self.bare, self.theirs = socket.socketpair()
        self.connection = BlockingConnection(self.bare)
        self._stored = stored
        self._keys = OpeningKeys.of(stored.vault.secrets)
        self._heard: list[Message] = []
        self._changes = changes
        self._news = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def grant(self) -> None:
        """Send the grant and the index, and answer from now on."""
        secrets = self._stored.vault.secrets
        files = self._stored.lend()
        grant = WorkerGrant(
            session="s",
            vault=secrets.vault,
            vault_name="radiology",
            id_key=secrets.id_key,
            action="unlock",
            repository=str(self._stored.scratch / "repository"),
            snapshots=tuple(
                msgspec.msgpack.encode(info) for info in snapshots(self._stored.store, secrets)
            ),
            newest_only_until_ns=2**62,
            ends_ns=time.time_ns() + HOUR_NS,  # noqa: TID251 - a real session
            idle_s=3600,
            cache_bytes=64 << 20,
            index_files=len(files),
        )
        self.connection.send(msgspec.structs.replace(grant, **self._changes), files)
        for file in files:
            os.close(file)
        self.theirs.close()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up, and wait for the thread."""
        self.theirs.close()
        with suppress(OSError):  # the worker may have gone before
            self.bare.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
        self.connection.close()

    def _hear(self) -> None:
        while (message := self._next()) is not None:
            if isinstance(message, UnsealPack):
                key = self._keys.pack_key(message.pack, message.header)
                self.connection.send(PackKey(key))
            with self._news:
                self._heard.append(message)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _next(self) -> Message | None:
        try:
            return self.connection.receive()
        except (ProtocolError, OSError):
            return None

    async def wait_for(self, kind: type[Message]) -> Message | None:
        """Return the first message of `kind`, or None where the worker hung up without."""

        def wait() -> Message | None:
            with self._news:
                self._news.wait_for(lambda: self._ended or self._first(kind), PATIENCE_S)
                return self._first(kind)

        return await trio.to_thread.run_sync(wait)

    def _first(self, kind: type[Message]) -> Message | None:
        return next((message for message in self._heard if isinstance(message, kind)), None)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Return a vault in a real repository with one snapshot of one study."""
    (tmp_path / "repository").mkdir()
    store = LocalStore(tmp_path / "repository")
    vault = make_vault(store)
    made = HandMade(store, vault, tmp_path / "writer")
    made.commit_entries(made.directory(b"study", made.file(b"image", CONTENT)))
    return Stored(tmp_path, store, vault)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a runtime directory that others may pass through, and leave nothing mounted there."""
    with tempfile.TemporaryDirectory(prefix="vitrine-run-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        for mounted in mounting.mounts_below(directory):
            mounting.detach(Path(os.fsdecode(mounted.point)))


MakeGate = Callable[..., Gate]


@pytest.fixture
def make_gate(stored: Stored) -> Iterator[MakeGate]:
    """Return a function that makes a gate's end for a session."""
    made: list[Gate] = []

    def make(**changes: object) -> Gate:
        made.append(Gate(stored, **changes))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


@asynccontextmanager
async def launcher(runtime: Path, gone: list[Message]) -> AsyncIterator[asyncclient.AsyncClient]:
    """Run a launcher and yield a gate's connection to it."""
    async with trio.open_nursery() as nursery:
        listener = await server.listen(str(runtime / "launcher.sock"))
        await nursery.start(run, listener, Settings(runtime, os.getuid()))
        connection = await asyncclient.connect(str(runtime / "launcher.sock"))
        caller = asyncclient.AsyncClient(connection, (SessionGone,), gone.append)
        nursery.start_soon(caller.run)
        yield caller
        nursery.cancel_scope.cancel()
    caller.close()


async def start(
    caller: asyncclient.AsyncClient, gate: Gate, session: str = "s", uid: int = 0
) -> Started:
    """Have a mount started and granted; return where it is once it answers."""
    request = StartMount(session, "radiology", uid, uid, "unused")
    started = await caller.call(request, [gate.theirs.fileno()])
    assert isinstance(started, Started)
    gate.grant()
    assert await gate.wait_for(WorkerReady), await gate.wait_for(Failed)
    return started


async def read(path: str) -> bytes:
    """Return a file's bytes, read in a thread."""
    return await trio.to_thread.run_sync(Path(path).read_bytes)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(PATIENCE_S * 100):
        if holds():
            return
        await trio.sleep(0.01)
    pytest.fail("it never came to hold")


def present(path: str) -> bool:
    """Tell whether anything is at `path`, without asking a mount that may be dead."""
    return os.path.basename(path) in os.listdir(os.path.dirname(path))


def mounted_at(path: str) -> bool:
    """Tell whether one of our mounts is at `path`."""
    directory = Path(path)
    return any(
        one.point == os.fsencode(directory) for one in mounting.mounts_below(directory.parent)
    )


async def test_session_from_start_to_end(make_gate: MakeGate, runtime: Path) -> None:
    """Mounted for one user at USER/VAULT, read from a real repository, locked, and gone."""
    gone: list[Message] = []
    gate = make_gate()
    async with launcher(runtime, gone) as caller:
        started = await start(caller, gate)
        assert started.path == str(runtime / "root/radiology")
        assert await read(f"{started.path}/latest/study/image") == CONTENT
        gate.connection.send(Shut())
        assert await gate.wait_for(Sealed)
        with pytest.raises(PermissionError):
            await read(f"{started.path}/latest/study/image")
        assert await caller.call(EndSession("s")) == Done()
        assert not mounted_at(started.path)
        assert not present(started.path)
        assert await caller.call(EndSession("s")) == Done()
        assert gone == []


async def test_mount_is_for_the_user_it_was_asked_for(make_gate: MakeGate, runtime: Path) -> None:
    """The gate names a uid: that user reads, root does not."""
    gate = make_gate()
    async with launcher(runtime, []) as caller:
        started = await start(caller, gate, uid=USER)
        image = f"{started.path}/latest/study/image"
        program = "import sys; print(len(open(sys.argv[1], 'rb').read()))"
        reading = await trio.to_thread.run_sync(run_as, USER, program, image)
        assert reading.stdout == f"{len(CONTENT)}\n", reading.stderr
        with pytest.raises(PermissionError):
            await read(image)


async def test_two_sessions_of_one_vault_have_a_mount_each(
    make_gate: MakeGate, runtime: Path
) -> None:
    """The second is numbered; ending one leaves the other."""
    first, second = make_gate(), make_gate()
    async with launcher(runtime, []) as caller:
        one = await start(caller, first, "one")
        two = await start(caller, second, "two")
        assert two.path == one.path + "-2"
        await caller.call(EndSession("one"))
        assert await read(f"{two.path}/latest/study/image") == CONTENT


async def test_killed_worker_is_unmounted_and_told_of(make_gate: MakeGate, runtime: Path) -> None:
    """After kill -9 the mount goes at once and the gate hears of it."""
    gone: list[Message] = []
    gate = make_gate()
    async with launcher(runtime, gone) as caller:
        started = await start(caller, gate)
        os.kill(started.worker_pid, signal.SIGKILL)
        await eventually(lambda: bool(gone))
        assert gone == [SessionGone("s", -signal.SIGKILL)]
        assert not mounted_at(started.path)


async def test_page_cache_of_a_killed_worker_is_dropped(make_gate: MakeGate, runtime: Path) -> None:
    """An old descriptor does not give plaintext: the launcher empties what the worker could not."""
    gone: list[Message] = []
    gate = make_gate()
    async with launcher(runtime, gone) as caller:
        started = await start(caller, gate)
        file = await trio.to_thread.run_sync(
            os.open, f"{started.path}/latest/study/image", os.O_RDONLY
        )
        assert await trio.to_thread.run_sync(os.pread, file, 100, 0) == CONTENT[:100]
        os.kill(started.worker_pid, signal.SIGKILL)
        await eventually(lambda: bool(gone))
        with pytest.raises(OSError, match=r".") as caught:
            os.pread(file, 100, 0)
        assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED}
        with pytest.raises(OSError, match=r"."):
            os.close(file)


async def test_gate_that_goes_ends_its_sessions(make_gate: MakeGate, runtime: Path) -> None:
    """When the gate's connection ends, so do its workers and mounts."""
    gate = make_gate()
    async with launcher(runtime, []) as caller:
        started = await start(caller, gate)
        caller.close()
        assert await gate.wait_for(Sealed)
        await eventually(lambda: not present(started.path))
        assert not mounted_at(started.path)


async def test_launcher_that_ends_leaves_nothing(make_gate: MakeGate, runtime: Path) -> None:
    """Stopped with a session open, it locks that first and removes its mount."""
    gate = make_gate()
    async with launcher(runtime, []) as caller:
        started = await start(caller, gate)
    assert await gate.wait_for(Sealed)
    assert not present(started.path)


async def test_left_overs_of_a_dead_launcher_are_removed(
    runtime: Path, expect_log: Callable[..., None]
) -> None:
    """A mount whose launcher and worker died is detached when the next launcher starts."""
    expect_log("1 mounts of an earlier launcher")
    point = workers.make_point(runtime, 0, "radiology", private=False)
    os.close(mounting.mount_fuse(point, 0, 0))
    assert mounted_at(str(point))
    async with launcher(runtime, []):
        assert not mounted_at(str(point))
        assert not point.exists()


async def test_worker_that_cannot_start_says_why(make_gate: MakeGate, runtime: Path) -> None:
    """A repository that is not there is told to the gate, and the mount goes."""
    gone: list[Message] = []
    gate = make_gate(repository="/nonexistent")
    async with launcher(runtime, gone) as caller:
        await caller.call(StartMount("s", "radiology", 0, 0, "unused"), [gate.theirs.fileno()])
        gate.grant()
        failed = await gate.wait_for(Failed)
        assert isinstance(failed, Failed)
        assert failed.error == "StoreUnavailable"
        await eventually(lambda: bool(gone))
        assert not mounting.mounts_below(runtime)


async def test_only_the_gate_is_heard(runtime: Path, expect_log: Callable[..., None]) -> None:
    """A caller with another uid is refused before it has asked anything."""
    expect_log("^a caller with uid 1000 was refused$")
    program = """
        import socket, sys
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(sys.argv[1])
        said = b""
        while part := caller.recv(1000):
            said += part
        print(said)
    """
    async with launcher(runtime, []):
        (runtime / "launcher.sock").chmod(0o666)
        asked = await trio.to_thread.run_sync(run_as, USER, program, str(runtime / "launcher.sock"))
    assert AccessDenied.__name__ in asked.stdout, asked.stderr


@pytest.mark.parametrize("vault_name", ["../etc", "a/b", "", ".hidden", "x" * 65])
async def test_vault_name_that_is_no_directory_name_is_refused(
    runtime: Path, vault_name: str
) -> None:
    """Even the gate cannot make the launcher mount elsewhere."""
    left, right = socket.socketpair()
    async with launcher(runtime, []) as caller:
        with pytest.raises(ProtocolError):
            await caller.call(StartMount("s", vault_name, 0, 0, ""), [left.fileno()])
    left.close()
    right.close()


async def test_other_requests_are_refused(runtime: Path) -> None:
    """What is no request to a launcher is told so, and the connection lives on."""
    async with launcher(runtime, []) as caller:
        with pytest.raises(ProtocolError):
            await caller.call(AskSessions())
        assert await caller.call(EndSession("none")) == Done()


async def test_restore_into_the_requester_s_hands_is_refused(runtime: Path, tmp_path: Path) -> None:
    """The launcher looks at the target itself, whatever the gate believes."""
    target = tmp_path / "mine"
    target.mkdir()
    os.chown(target, USER, USER)
    left, right = socket.socketpair()
    async with launcher(runtime, []) as caller:
        with pytest.raises(RestoreRefused):
            await caller.call(StartRestore("s", str(target), USER, ""), [left.fileno()])
    left.close()
    right.close()


def test_target_is_reached_without_links(tmp_path: Path) -> None:
    """A link anywhere on the way, a relative path, a file or nothing: refused."""
    real = tmp_path / "real"
    (real / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (real / "file").touch()
    for path in (
        f"{tmp_path}/link",
        f"{tmp_path}/link/in",
        f"{real}/file",
        f"{real}/none",
        f"{real}/in/..",
        "relative",
    ):
        with pytest.raises(RestoreRefused):
            open_target(path, USER, privileged=True)
    directory = open_target(f"{real}/in", USER, privileged=True)
    assert os.path.samestat(os.fstat(directory), (real / "in").stat())
    os.close(directory)


def test_target_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """What all may change is in the requester's hands too."""
    tmp_path.chmod(0o777)
    with pytest.raises(RestoreRefused):
        open_target(str(tmp_path), USER, privileged=True)


def test_unprivileged_restore_is_the_requester_s_own(tmp_path: Path) -> None:
    """Without root there is nobody else to restore for."""
    os.close(open_target(str(tmp_path), os.getuid(), privileged=False))


async def test_call_after_the_launcher_went_is_an_error(runtime: Path) -> None:
    """A gate that asks a dead launcher is told so."""
    async with launcher(runtime, []) as caller:
        pass
    with pytest.raises((ServiceNotRunning, ProtocolError)):
        await caller.call(EndSession("s"))


async def test_worker_runs_as_its_own_user_with_nothing_inherited() -> None:
    """User, groups, environment, directory and session are its own; only the named fd is open."""
    left, right = socket.socketpair()
    program = """
        import os, socket, sys
        told = socket.socket(fileno=int(sys.argv[1]))
        fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
        told.sendall(repr((
            os.getuid(), os.getgid(), os.getgroups(), os.umask(0), os.getcwd(),
            os.getsid(0) == os.getpid(), sorted(os.environ), len(fds),
        )).encode())
    """
    command = ["/usr/bin/python3", "-c", textwrap.dedent(program), str(right.fileno())]
    process = await workers.spawn(command, (right.fileno(),), Account(USER, USER + 1))
    right.close()
    assert await process.wait() == 0
    told = ast.literal_eval(left.recv(1000).decode())
    left.close()
    # standard input, output and error, and the one that was passed on
    assert told == (USER, USER + 1, [], 0o077, "/", True, ["LANG", "PATH"], 4)
