"""What the gate may be asked: one handler a kind of request, and nothing else is heard."""

from collections.abc import Awaitable, Callable, Mapping

from agent.control.messages import Message
from agent.control.server import Reply
from agent.control.wire import Peer
from agent.errors import ProtocolError

Handler = Callable[[Peer, Message, Reply], Awaitable[Message]]
Handlers = Mapping[type[Message], Handler]


class Requests:
    """Hands each request to who carries it out."""

    def __init__(self, *groups: Handlers) -> None:
        """Take groups of handlers; no kind of request has two."""
        self._handlers: dict[type[Message], Handler] = {}
        for group in groups:
            if twice := self._handlers.keys() & group.keys():
                raise ValueError(f"two handlers for {twice}")
            self._handlers |= group

    async def handle(self, peer: Peer, request: Message, reply: Reply) -> Message:
        """Carry out one request; raise ProtocolError for what the gate is not asked."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise ProtocolError(f"the gate is not asked for {type(request).__name__}")
        return await handler(peer, request, reply)
