"""A worker's side of the socket pair that it was started with: grant in, keys asked for, end heard.

One question is outstanding at a time and answers come in order, for the gate answers in order.
The gate's end is the session's end.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from agent.control.client import final
from agent.control.connection import Connection
from agent.control.messages import Failed, Message
from agent.control.session_messages import MoreSnapshots, PackKey, Shut, UnsealPack, WorkerGrant
from agent.control.wire import BlockingConnection
from agent.errors import ProtocolError, SessionExpired
from agent.model.ids import PackId

SHUT = "the gate asked"
_HEX_ID = 64


class LentIndex(NamedTuple):
    """An index file of the gate's, by descriptor, and the object's id in hexadecimal."""

    descriptor: int
    name: str


def receive_grant(connection: BlockingConnection) -> tuple[WorkerGrant, list[LentIndex]]:
    """Return what the gate grants and the index files it lends; the caller closes those."""
    grant = connection.receive()
    if not isinstance(grant, WorkerGrant):
        raise ProtocolError("the first message was no grant")
    snapshots = list(grant.snapshots)
    for _ in range(grant.more_snapshots):
        more = connection.receive()
        if not isinstance(more, MoreSnapshots):
            raise ProtocolError("a grant was cut short")
        snapshots += more.snapshots
    grant = msgspec.structs.replace(grant, snapshots=tuple(snapshots), more_snapshots=0)
    lent = connection.receive_fds(grant.index_files)
    return grant, [LentIndex(descriptor, _object_id(descriptor)) for descriptor in lent]


class GateLine:
    """What a worker asks and hears.  `pack_key` is for threads, the rest for the event loop."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection, on which the grant has been received."""
        self._connection = connection
        self._token = trio.lowlevel.current_trio_token()
        self._turn = trio.Lock()
        self._answers_in, self._answers = trio.open_memory_channel[Message](1)

    async def receive(self) -> str:
        """Hand on answers until the session must end; return why, in words of our own."""
        async with self._answers_in:
            while True:
                try:
                    message = await self._connection.receive()
                except ProtocolError:
                    return "the gate sent what is no message"
                match message:
                    case None:
                        return "the gate hung up"
                    case Shut():
                        return SHUT
                    case PackKey() | Failed():
                        await self._answers_in.send(message)
                    case _:
                        return "the gate sent what was not asked for"

    async def tell(self, message: Message) -> None:
        """Send a message; raise SessionExpired where the gate has gone."""
        try:
            await self._connection.send(message)
        except ProtocolError:
            raise SessionExpired("the session has ended") from None

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return a pack's key, from the gate; called from threads, and blocks.

        Raises what the gate refuses with, and SessionExpired where it has gone.
        """
        try:
            return trio.from_thread.run(self._ask, pack, preamble, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise SessionExpired("the session has ended") from None

    async def _ask(self, pack: PackId, preamble: bytes) -> bytes:
        async with self._turn:
            try:
                await self.tell(UnsealPack(pack, preamble))
                answer = final(await self._answers.receive())
            except trio.EndOfChannel:
                raise SessionExpired("the session has ended") from None
        if not isinstance(answer, PackKey):
            raise ProtocolError("the gate answered something else")
        return answer.key


def _object_id(descriptor: int) -> str:
    """Return the id in the name of a lent file: what the index says of itself in errors."""
    return Path(f"/proc/self/fd/{descriptor}").readlink().name[:_HEX_ID]
