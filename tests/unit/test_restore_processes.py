"""Files written by processes: what crosses to them, what they may take down, and what ends them."""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.control.hardening import harden
from agent.control.messages import Failed
from agent.errors import RestoreIncomplete, StoreUnavailable, VitrineError
from agent.model.tree import Entry
from agent.repository import layout
from agent.restore import parcel
from agent.restore.batch import MAX_FILES, Batch, Item, Job
from agent.restore.gauge import Gauge
from agent.restore.plan import Planned
from agent.restore.processes import Processes
from agent.restore.tally import Done
from agent.restore.target import Directory, Opened
from agent.restore.work import FileWork
from agent.store.memory import MemoryStore
from tests.fakes import restores
from tests.fakes.restores import HandMade, restore_to
from tests.fakes.vaults import make_vault, open_reader

_PR_GET_DUMPABLE = 3  # prctl(2)


@pytest.fixture(autouse=True)
def _by_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write by two processes, and see that none is left, neither alive nor unwaited for."""
    monkeypatch.setattr(restores, "PROCESSES", 2)
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the walker's end and the writer's."""
    here, there = socket.socketpair()
    yield here, there
    here.close()
    there.close()


class Trap(MemoryStore):
    """A store in which reading content does something to the process that reads."""

    def __init__(self) -> None:
        """Do nothing until `act` is set."""
        super().__init__()
        self.act: Callable[[], None] | None = None
        self._parent = os.getpid()

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Act, where content is read in another process than the one that made this."""
        if self.act and name.startswith(layout.PACKS) and os.getpid() != self._parent:
            self.act()
        return super().get_range(name, offset, length)


def _restore(scratch: Path, act: Callable[[], None] | None) -> list[str]:
    """Restore many files, with what is done in a process that reads; return what is there."""
    store = Trap()
    vault = make_vault(store)
    make = HandMade(store, vault, scratch / "made")
    files = [make.file(b"f%03d" % n, b"%03d" % n * 99) for n in range(900)]
    root = make.commit_entries(*files).snapshot.root
    store.act = act
    try:
        restore_to(scratch / "out", open_reader(store, vault.secrets, scratch / "read"), root)
    finally:
        there = sorted(os.listdir(scratch / "out"))
        for name in there:
            number = name[1:]
            assert name.startswith(".vitrine-") or (scratch / "out" / name).read_text() == (
                number * 99
            )
    return there


def _kill_this() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_several_processes_write_what_one_walks(tmp_path: Path) -> None:
    """More batches than processes; every file is there once, and nothing else is."""
    assert _restore(tmp_path, None) == [f"f{n:03}" for n in range(900)]


def test_names_of_one_file_that_two_processes_write_are_one_file(tmp_path: Path) -> None:
    """Both begin at once, with a batch of one name each of the same files; no anchor stays."""
    store = MemoryStore()
    vault = make_vault(store)
    make = HandMade(store, vault, tmp_path / "made")
    files = [
        make.file(b"f%03d" % n, b"%d" % n * 5000, inode=n + 1, links=2) for n in range(MAX_FILES)
    ]
    both = make.directory(b"a", *files), make.directory(b"b", *files)
    root = make.commit_entries(make.directory(b"source", *both))
    reader = open_reader(store, vault.secrets, tmp_path / "read")
    outcome = restore_to(tmp_path / "out", reader, root.snapshot.root)
    assert (outcome.files, outcome.failed) == (2 * MAX_FILES, 0)
    assert os.listdir(tmp_path / "out") == ["source"]
    for n in range(MAX_FILES):
        one, other = (tmp_path / "out" / "source" / name / f"f{n:03}" for name in ("a", "b"))
        assert one.samefile(other)
        assert one.stat().st_nlink == 2
        assert one.read_bytes() == b"%d" % n * 5000


def test_a_process_that_is_killed_ends_the_restore(tmp_path: Path) -> None:
    """With an error that says so, the others ended, and nothing half there under its name."""
    with pytest.raises(RestoreIncomplete, match="killed or crashed"):
        _restore(tmp_path, _kill_this)


def test_an_error_in_a_process_is_the_restores(tmp_path: Path) -> None:
    """What the store raises comes across with its class, message and hint."""

    def gone() -> None:
        raise StoreUnavailable("the storage does not answer", hint="see the cable")

    with pytest.raises(StoreUnavailable, match="does not answer") as caught:
        _restore(tmp_path, gone)
    assert caught.value.hint == "see the cable"
    assert os.listdir(tmp_path / "out") == []


def test_a_mistake_in_a_process_ends_the_restore_without_its_text(tmp_path: Path) -> None:
    """A text that nobody wrote for people may hold a name."""

    def mistake() -> None:
        raise TypeError("Doe^Jane")

    with pytest.raises(VitrineError, match="TypeError") as caught:
        _restore(tmp_path, mistake)
    assert "Doe" not in str(caught.value)


def test_no_process_outlives_the_one_that_forked_it() -> None:
    """Killed, it can tell them nothing: the kernel does."""
    read, write = os.pipe()
    killed = os.fork()
    if not killed:
        heard, held = socket.socketpair()
        try:
            made = Processes(lambda: _Waiting(held), Gauge(lambda: False), 2)
            for _ in range(2):
                made.give(_batch())
            assert heard.recv(2, socket.MSG_WAITALL) == b"ww"  # both are in the midst of a batch
            os.write(write, b"started")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    os.waitpid(killed, 0)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"started"  # and then its end: every process that had it has ended


def test_a_process_that_writes_hears_of_the_end() -> None:
    """Between two stretches of bytes, though it reads no message before the batch is done."""
    gauge = Gauge(lambda: False)
    heard, held = socket.socketpair()
    made = Processes(lambda: _Endless(held, gauge), gauge, 2)
    batch = _batch()
    made.give(batch)
    assert heard.recv(1) == b"w"
    gauge.end()
    assert list(made.end()) == [batch]
    heard.close()
    held.close()


def test_processes_that_cannot_be_forked_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an internal error; those that were forked are gone, and no descriptor is left open."""
    fork, forked = os.fork, iter([True, False])

    def limited() -> int:
        if not next(forked):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", limited)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RestoreIncomplete, match="could not be started"):
        Processes(_Dumpable, Gauge(lambda: False), 2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_with_threads_is_not_forked() -> None:
    """It would take the locks that they hold along, for ever.  Any thread counts, not Python's."""
    program = (
        "import os, threading\n"
        "from agent.restore.processes import MAX_PROCESSES, how_many\n"
        "print(how_many() == min(len(os.sched_getaffinity(0)) + 2, MAX_PROCESSES))\n"
        "end = threading.Event()\n"
        "threading.Thread(target=end.wait).start()\n"
        "print(how_many())\n"
        "end.set()\n"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "0"]


def test_a_process_cannot_be_dumped_where_its_parent_cannot() -> None:
    """No core file, and no debugger of the same user, finds the keys that came with the fork."""
    child = os.fork()
    if not child:
        status = 1
        try:
            harden()
            made = Processes(_Dumpable, Gauge(lambda: False), 1)
            made.give(_batch())
            ((_, done),) = made.done(60)
            list(made.end())
            status = done.files  # 0: not dumpable
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_batch_crosses_with_its_directories(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Each once, as another descriptor of the same directory; entries with all they have."""
    directories = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        directories.append(os.open(tmp_path / name, os.O_RDONLY))
    first, second = (Opened(fd, made=bool(n), is_plain=True) for n, fd in enumerate(directories))
    entries = [Entry(name=b"\xff%d" % n, size=n, xattrs=((b"user.x", b"y" * n),)) for n in range(9)]
    items = [Item((first, second)[n % 2], n, entry) for n, entry in enumerate(entries)]
    parcel.send_batch(pair[0], items)
    received = parcel.receive_batch(pair[1])
    assert received is not None
    assert [(one.source, one.entry) for one in received] == list(enumerate(entries))
    assert [one.at.made for one in received] == [bool(n % 2) for n in range(9)]
    for mine, theirs in zip(items, received, strict=True):
        assert os.path.samestat(os.fstat(mine.at.descriptor), os.fstat(theirs.at.descriptor))
    for descriptor in {*directories, *(one.at.descriptor for one in received)}:
        os.close(descriptor)


def test_a_large_batch_crosses_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    """More than a socket holds; the writer takes it while it is sent."""
    at = Opened(os.open("/", os.O_RDONLY), made=True, is_plain=True)
    entry = Entry(name=b"n", xattrs=((b"user.x", b"y" * 2_000_000),))
    received: list[list[Item] | None] = []
    taker = threading.Thread(target=lambda: received.append(parcel.receive_batch(pair[1])))
    taker.start()
    parcel.send_batch(pair[0], [Item(at, 0, entry)])
    taker.join()
    assert received[0] is not None
    assert received[0][0].entry == entry
    os.close(at.descriptor)
    os.close(received[0][0].at.descriptor)


@pytest.mark.parametrize("cut", [b"", b"\x05", b"\x05\0\0\0\x01"])
def test_an_end_that_has_gone_is_an_end(
    pair: tuple[socket.socket, socket.socket], cut: bytes
) -> None:
    """Wherever in a message it came."""
    pair[0].sendall(cut)
    pair[0].close()
    assert parcel.receive_batch(pair[1]) is None
    here, there = socket.socketpair()
    here.sendall(cut)
    here.close()
    assert parcel.receive_answer(there) is None
    there.close()


def test_answers_cross(pair: tuple[socket.socket, socket.socket]) -> None:
    """Counts with the reasons of what failed, and what ended the restore."""
    for answer in (Done(3, 99, 1, 2, [(4, "why")]), Failed("StoreFull", "no space", "make room")):
        parcel.send_answer(pair[1], answer)
        assert parcel.receive_answer(pair[0]) == answer


def test_counts_of_all_processes_are_seen_by_each() -> None:
    """And the end that one of them is told."""
    gauge = Gauge(lambda: False)
    gauge.moved(5)
    child = os.fork()
    if not child:
        gauge.become(1)
        gauge.moved(7)
        gauge.end()
        os._exit(0)
    os.waitpid(child, 0)
    assert gauge.moved_bytes == 12
    with pytest.raises(VitrineError):
        gauge.check()


class _Waiting(FileWork):
    """Work that says that it has begun, and does not end."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held

    def batch(self, items: object) -> Done:
        del items
        self._held.send(b"w")
        signal.pause()
        return Done()


class _Endless(_Waiting):
    """Work that says that it has begun, and goes on until it must end."""

    def __init__(self, held: socket.socket, gauge: Gauge) -> None:
        super().__init__(held)
        self._gauge = gauge

    def batch(self, items: object) -> Done:
        del items
        self._held.send(b"w")
        while True:
            self._gauge.moved(1)


class _Dumpable(FileWork):
    """Work that tells, as its count of files, whether its process may be dumped."""

    def __init__(self) -> None:
        pass

    def batch(self, items: object) -> Done:
        del items
        return Done(files=ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def _batch() -> Batch:
    """Return a batch of one file."""
    root = os.open("/", os.O_RDONLY)
    batch = Batch()
    batch.add(Job(Directory.root(root), Planned(b"", 0, 0, Entry(name=b"f"))))
    os.close(root)
    return batch
