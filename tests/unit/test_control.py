"""Messages over Unix sockets: frames, descriptors, who calls, and what callers are told."""

import logging
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from agent.control import asyncclient, client, server, wire
from agent.control.connection import Connection
from agent.control.gate_messages import AskSessions, Lock, Locked
from agent.control.messages import Done, Failed, Message, Progress
from agent.control.session_messages import SessionGone, UnsealPack
from agent.control.wire import BlockingConnection, Peer
from agent.errors import (
    AccessDenied,
    ConfigInvalid,
    NotFound,
    ProtocolError,
    ServiceNotRunning,
    VitrineError,
)
from agent.model.ids import PackId

PATIENCE_S = 120.0


def pair() -> tuple[BlockingConnection, socket.socket]:
    """Return a connection and the bare socket at its other end."""
    left, right = socket.socketpair()
    left.settimeout(PATIENCE_S)
    right.settimeout(PATIENCE_S)
    return BlockingConnection(left), right


def test_message_crosses_unchanged() -> None:
    """What one end sends the other end receives, then the end of the stream."""
    sender, bare = pair()
    receiver = BlockingConnection(bare)
    message = UnsealPack(PackId(bytes(range(32))), b"\xff" * 100)
    sender.send(message)
    sender.close()
    assert receiver.receive() == message
    assert receiver.receive() is None
    receiver.close()


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<I", wire.MAX_MESSAGE_BYTES + 1),
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 10) + b"short",
        b"\x01\x00",
        struct.pack("<I", 14) + b"\x81\xa4type\xa7Unknown",
    ],
)
def test_garbage_is_a_protocol_error(garbage: bytes) -> None:
    """Over-long, undecodable, cut and unknown messages are refused without being quoted."""
    receiver, bare = pair()
    bare.sendall(garbage)
    bare.close()
    with pytest.raises(ProtocolError):
        receiver.receive()
    receiver.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"\x82\xa4type\xa4Done\xa1x" + b"\x91" * 5000 + b"\xc0",
        b"\x82\xa4type\xa6Failed\xa5error\xa1\xff",
    ],
    ids=["nested too deep", "no UTF-8"],
)
def test_what_the_decoder_chokes_on_is_a_protocol_error(payload: bytes) -> None:
    """A field nobody knows may nest deeper than the stack; a text may be none."""
    with pytest.raises(ProtocolError):
        wire.decode(payload)


def test_too_long_a_message_is_not_sent() -> None:
    """The limit binds the sender too."""
    with pytest.raises(ProtocolError):
        wire.encode(Lock("x" * (wire.MAX_MESSAGE_BYTES + 1)))


def test_descriptors_follow_a_message(tmp_path: Path) -> None:
    """More descriptors than fit one batch arrive in order, close-on-exec, between messages."""
    sender, bare = pair()
    receiver = BlockingConnection(bare)
    names = [tmp_path / str(n) for n in range(5)]
    for name in names:
        name.write_text(name.name)
    fds = [os.open(names[n % 5], os.O_RDONLY) for n in range(203)]
    sender.send(Lock("a"), fds)
    sender.send(Lock("b"))
    for fd in fds:
        os.close(fd)
    assert receiver.receive() == Lock("a")
    received = receiver.receive_fds(203)
    assert [os.pread(fd, 1, 0) for fd in received] == [str(n % 5).encode() for n in range(203)]
    assert not any(os.get_inheritable(fd) for fd in received)
    assert receiver.receive() == Lock("b")
    for fd in received:
        os.close(fd)
    sender.close()
    receiver.close()


def test_fewer_descriptors_than_announced_is_a_protocol_error() -> None:
    """A peer that hangs up instead of sending descriptors is found out."""
    sender, bare = pair()
    sender.send(Lock("a"))
    sender.close()
    receiver = BlockingConnection(bare)
    receiver.receive()
    with pytest.raises(ProtocolError):
        receiver.receive_fds(1)
    receiver.close()


async def refuse(peer: Peer, request: Message, reply: server.Reply) -> Message:
    """Answer as the tests below need it."""
    match request:
        case Lock(session=""):
            raise NotFound("no session of yours is open", hint="see `vitrine sessions`")
        case Lock(session="crash"):
            raise KeyError("Doe^Jane")
        case Lock(session="nested"):
            raise ExceptionGroup("", [ExceptionGroup("", [AccessDenied("refused")])])
        case Lock():
            await reply.progress(Progress("ending", 1, 2))
            return Locked((str(peer.uid), str(peer.pid)))
    return Done()


async def ask(path: str, request: Message, progress: list[Progress]) -> Message:
    """Call the service from a thread, as the command line would."""
    return await trio.to_thread.run_sync(
        partial(client.call, path, request, progress.append, service="gate")
    )


async def test_caller_gets_progress_then_the_answer(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The handler learns from the kernel who calls; the caller sees progress and one answer."""
    path = str(tmp_path / "s")
    await nursery.start(server.serve, await server.listen(path), refuse)
    progress: list[Progress] = []
    answer = await ask(path, Lock("x"), progress)
    assert answer == Locked((str(os.getuid()), str(os.getpid())))
    assert progress == [Progress("ending", 1, 2)]


async def test_refusal_is_raised_by_name(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A VitrineError crosses with its class, message and hint, also out of nurseries."""
    path = str(tmp_path / "s")
    await nursery.start(server.serve, await server.listen(path), refuse)
    with pytest.raises(NotFound) as caught:
        await ask(path, Lock(""), [])
    assert caught.value.hint == "see `vitrine sessions`"
    with pytest.raises(AccessDenied):
        await ask(path, Lock("nested"), [])


async def test_unexpected_error_is_told_and_logged_without_its_text(
    tmp_path: Path, nursery: trio.Nursery, expect_log: Callable[..., None]
) -> None:
    """A bug's text may hold a name: neither the caller nor the log gets it."""
    expect_log("^a request failed: KeyError$", level=logging.ERROR)
    path = str(tmp_path / "s")
    await nursery.start(server.serve, await server.listen(path), refuse)
    with pytest.raises(VitrineError) as caught:
        await ask(path, Lock("crash"), [])
    assert caught.value.message == "internal error"


def test_unknown_error_name_becomes_the_base() -> None:
    """A service of a later version may name an error that is not ours, or no error at all."""
    for name in ("SomethingLater", "annotations", "_errno"):
        assert type(client.error_of(Failed(name, "m"))) is VitrineError


def test_absent_service_is_named_with_a_hint(tmp_path: Path) -> None:
    """Nobody listening says how to start the service."""
    with pytest.raises(ServiceNotRunning) as caught:
        client.call(str(tmp_path / "none"), AskSessions(), service="gate")
    assert "vitrine gate" in caught.value.hint


async def test_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    """A restart after a crash works; a second server at the same place is refused."""
    path = str(tmp_path / "s")
    first = await server.listen(path, 0o660)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    with pytest.raises(ConfigInvalid):
        await server.listen(path)
    await first.aclose()
    second = await server.listen(path)
    await second.aclose()


async def test_one_user_cannot_hold_every_connection(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Beyond the limit a user's connection is closed at once; room comes back."""
    path = str(tmp_path / "s")
    await nursery.start(server.serve, await server.listen(path), refuse)
    held = [await asyncclient.connect(path) for _ in range(server.CONNECTIONS_A_USER)]
    for connection in held:
        await connection.send(AskSessions())
        assert await connection.receive() == Done()
    extra = await asyncclient.connect(path)
    assert await extra.receive() is None
    for connection in (*held, extra):
        connection.close()


async def test_lasting_client_tells_answers_from_what_is_unasked(nursery: trio.Nursery) -> None:
    """An unasked message between request and answer goes to its hearer, not to the caller."""
    left, right = socket.socketpair()
    service = Connection.over(right)
    gone: list[Message] = []
    caller = asyncclient.AsyncClient(Connection.over(left), (SessionGone,), gone.append)
    nursery.start_soon(caller.run)

    async def answer() -> None:
        await service.receive()
        await service.send(SessionGone("s", 0))
        await service.send(Failed("NotFound", "no such session"))

    nursery.start_soon(answer)
    with pytest.raises(NotFound):
        await caller.call(Lock("x"))
    assert gone == [SessionGone("s", 0)]
    service.close()
    with pytest.raises((ServiceNotRunning, ProtocolError)):
        await caller.call(Lock("y"))
    caller.close()
