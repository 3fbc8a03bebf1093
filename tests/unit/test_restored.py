"""A restore worker does what the gate grants, with keys asked for one by one, until told to end."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from agent import restored
from agent.control.connection import Connection
from agent.control.messages import Failed, Message
from agent.control.session_messages import (
    PackKey,
    Sealed,
    Shut,
    UnsealPack,
    WorkerGrant,
    WorkerProgress,
    WorkerReady,
    WorkerResult,
)
from agent.errors import NotFound, SessionExpired, VitrineError
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.store.local import LocalStore
from tests.fakes.backups import BackupFixture
from tests.fakes.compare import differences
from tests.fakes.vaults import snapshots

FAR_NS = 2**62
PATIENCE_S = 120


class Gate:
    """The gate's side: a grant over a real repository, and what the worker said."""

    def __init__(self, scratch: Path) -> None:
        """Back up a source with a few files."""
        (scratch / "repository").mkdir()
        self.scratch = scratch
        self.store = LocalStore(scratch / "repository")
        self.backup = BackupFixture(self.store, scratch)
        self.source = Path(os.fsdecode(self.backup.source))
        for number in range(40):
            (self.source / f"d{number % 7}").mkdir(exist_ok=True)
            (self.source / f"d{number % 7}" / f"f{number}").write_bytes(os.urandom(5000))
        self.backup.run()
        self.target = scratch / "out"
        self.target.mkdir()
        self.keys = OpeningKeys.of(self.backup.vault.secrets)
        self.heard: list[Message] = []
        self.asked = 0

    def grant(self, **changes: object) -> tuple[WorkerGrant, list[int]]:
        """Return a grant of everything, and the index to lend."""
        secrets = self.backup.vault.secrets
        cache = IndexCache(
            self.scratch / "gate", self.store, secrets.vault, secrets.reader().index()
        )
        cache.refresh()
        lent = cache.descriptors()
        grant = WorkerGrant(
            session="s1",
            vault=secrets.vault,
            vault_name=secrets.name,
            id_key=secrets.id_key,
            action="restore",
            repository=str(self.scratch / "repository"),
            snapshots=tuple(
                msgspec.msgpack.encode(info) for info in snapshots(self.store, secrets)
            ),
            newest_only_until_ns=FAR_NS,
            ends_ns=FAR_NS,
            idle_s=600,
            cache_bytes=32 << 20,
            index_files=len(lent),
        )
        return msgspec.structs.replace(grant, **changes), lent

    async def answer(self, connection: Connection, *, shut_at: int = -1) -> None:
        """Answer until the worker hangs up; at the `shut_at`th key say Shut instead."""
        while (message := await connection.receive()) is not None:
            if not isinstance(message, UnsealPack):
                self.heard.append(message)
                if isinstance(message, Sealed):
                    return
                continue
            if self.asked == shut_at:
                await connection.send(Shut())
                continue
            self.asked += 1
            await connection.send(PackKey(self.keys.pack_key(message.pack, message.header)))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Return a gate with something to restore."""
    return Gate(tmp_path)


@asynccontextmanager
async def _worker(gate: Gate, **changes: object) -> AsyncIterator[Connection]:
    """Run the worker's code beside what is inside; raises what it raised."""
    ours, theirs = socket.socketpair()
    target = os.open(gate.target, os.O_RDONLY)
    failures: list[VitrineError] = []

    async def serve() -> None:
        try:
            await restored.serve(theirs.detach(), target)
        except VitrineError as error:
            failures.append(error)

    connection = Connection.over(ours)
    grant, lent = gate.grant(**changes)
    # the worker begins with a blocking receive: what it waits for must be there already
    await connection.send(grant, lent)
    for descriptor in lent:
        os.close(descriptor)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield connection
    connection.close()
    os.close(target)
    if failures:
        raise failures[0]


async def test_everything_granted_is_restored_and_told(gate: Gate) -> None:
    """Ready, progress, result, sealed; a key for each pack, asked once."""
    async with _worker(gate) as connection:
        await gate.answer(connection)
    assert differences(gate.source, gate.target / "source") == []
    kinds = [type(message) for message in gate.heard]
    assert (kinds[0], kinds[-2:]) == (WorkerReady, [WorkerResult, Sealed])
    assert set(kinds[1:-2]) == {WorkerProgress}
    assert gate.heard[-2] == WorkerResult(40, 200_000, 0)
    assert gate.heard[-3] == WorkerProgress(200_000, 200_000, 40)
    assert gate.asked == len(list(gate.store.list("packs/")))


async def test_only_the_paths_granted_are_restored(gate: Gate) -> None:
    """And the directories above them."""
    async with _worker(gate, paths=(b"source/d3/f3",)) as connection:
        await gate.answer(connection)
    assert [str(p.relative_to(gate.target)) for p in sorted(gate.target.rglob("*"))] == [
        "source",
        "source/d3",
        "source/d3/f3",
    ]


async def test_a_path_that_is_not_there_is_told_without_its_name(gate: Gate) -> None:
    """The requester may not know names that he did not type."""
    with pytest.raises(NotFound):
        async with _worker(gate, paths=(b"source/secret-name",)) as connection:
            await gate.answer(connection)
    failed = gate.heard[-2]
    assert isinstance(failed, Failed)
    assert failed.error == "NotFound"
    assert "secret-name" not in failed.message + failed.hint


async def test_files_that_fail_are_counted_and_not_named_to_the_gate(gate: Gate) -> None:
    """A name is in the way: the result has a number, the target has the report."""
    (gate.target / "source" / "d0").mkdir(parents=True)
    (gate.target / "source" / "d0" / "f0").write_bytes(b"mine")
    async with _worker(gate) as connection:
        await gate.answer(connection)
    assert gate.heard[-2] == WorkerResult(39, 195_000, 1)
    assert (gate.target / "source" / "d0" / "f0").read_bytes() == b"mine"
    (report,) = gate.target.glob(".vitrine-failed-*")
    assert report.read_text().startswith("source/d0/f0\t")


async def test_shut_ends_a_restore_that_waits_for_a_key(gate: Gate) -> None:
    """At once: what is there is whole, and no file is there half."""
    with pytest.raises(SessionExpired):
        async with _worker(gate) as connection:
            await gate.answer(connection, shut_at=1)
    assert not [m for m in gate.heard if isinstance(m, WorkerResult)]
    assert not list(gate.target.rglob(".vitrine-*"))
    assert {p.stat().st_size for p in gate.target.rglob("f*")} <= {5000}


async def test_the_gates_end_is_the_restores_end(gate: Gate) -> None:
    """Nobody is left to ask for keys."""

    async def hang_up() -> None:
        async with _worker(gate) as connection:
            assert await connection.receive() == WorkerReady()
            connection.close()

    with pytest.raises(SessionExpired):
        await hang_up()


async def test_an_expired_grant_restores_nothing(gate: Gate) -> None:
    """The gate ends sessions; the worker's own clock is for when it does not."""
    with pytest.raises(SessionExpired):
        async with _worker(gate, ends_ns=1) as connection:
            await gate.answer(connection)
    assert os.listdir(gate.target) == []


async def test_a_refused_key_ends_the_restore_with_the_gates_words(gate: Gate) -> None:
    """It is no fault of one file."""

    async def refuse() -> None:
        async with _worker(gate) as connection:
            while not isinstance(message := await connection.receive(), Sealed | None):
                if isinstance(message, UnsealPack):
                    await connection.send(Failed("SessionExpired", "the session has ended"))

    with pytest.raises(SessionExpired):
        await refuse()


def test_the_process_tells_nothing_and_ends_with_the_gate(gate: Gate) -> None:
    """As the launcher starts it: status of the error, no name in its log, no core, no debugger."""
    ours, theirs = socket.socketpair()
    target = os.open(gate.target, os.O_RDONLY)
    command = [sys.executable, "-m", "agent.restored"]
    command += ["--gate-fd", str(theirs.fileno()), "--target-fd", str(target)]
    with (
        ours,
        subprocess.Popen(
            command, pass_fds=(theirs.fileno(), target), stderr=subprocess.PIPE
        ) as process,
    ):
        theirs.close()
        os.close(target)
        grant, lent = gate.grant()

        async def talk() -> None:
            connection = Connection.over(ours)
            await connection.send(grant, lent)
            assert await connection.receive() == WorkerReady()
            limits = await trio.Path(f"/proc/{process.pid}/limits").read_text()
            assert "Max core file size        0                    0" in limits
            connection.close()

        trio.run(talk)
        _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == SessionExpired.exit_status
    assert b"gate hung up" in log
    assert b"source" not in log
    for descriptor in lent:
        os.close(descriptor)
