"""What an agent may be asked: snapshots now, and how the sources stand."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial

from agent.backup.protect import VaultProtection
from agent.backup.request import Counts
from agent.backup.told import progress, snapshot_taken
from agent.control.agent_messages import (
    AgentStatus,
    AskAgentStatus,
    SnapshotsTaken,
    SourceStatus,
    TakeSnapshot,
)
from agent.control.messages import Message, Progress
from agent.control.server import Reply, progress_to
from agent.control.wire import Peer
from agent.errors import NotFound, ProtocolError

log = logging.getLogger(__name__)


class AgentService:
    """Answers whoever the permissions of the agent's socket let in."""

    def __init__(self, vaults: Mapping[str, VaultProtection], repository: str) -> None:
        """Take the vaults by name."""
        self._vaults = vaults
        self._repository = repository

    async def handle(self, peer: Peer, request: Message, reply: Reply) -> Message:
        """Carry out one request."""
        match request:
            case TakeSnapshot():
                log.info("a snapshot was asked for by uid %d", peer.uid)
                return await self._snapshot(request, reply)
            case AskAgentStatus():
                return self._status()
        raise ProtocolError(f"the agent is not asked for {type(request).__name__}")

    async def _snapshot(self, request: TakeSnapshot, reply: Reply) -> Message:
        if request.vault and request.vault not in self._vaults:
            raise NotFound(
                f"this agent has no vault {request.vault!r}",
                hint=f"it has: {', '.join(sorted(self._vaults))}",
            )
        names = [request.vault] if request.vault else list(self._vaults)
        taken = []
        async with progress_to(reply) as tell:
            for name in names:
                outcome = await self._vaults[name].snapshot(
                    full=request.full,
                    reread=request.reread,
                    on_progress=partial(_tell, tell, name),
                )
                taken.append(snapshot_taken(name, outcome))
        return SnapshotsTaken(tuple(taken))

    def _status(self) -> Message:
        sources = tuple(
            SourceStatus(
                path=one.path.decode(errors="replace"),
                vault=vault.name,
                state=one.state,
                files=one.files,
                bytes=one.bytes,
                last_snapshot_ns=one.last_snapshot_ns,
                dirty_since_ns=one.dirty_since_ns,
                problem=one.problem,
            )
            for vault in self._vaults.values()
            for one in vault.standings()
        )
        return AgentStatus(sources, self._repository, os.getpid())


def _tell(tell: Callable[[Progress], None], vault: str, counts: Counts) -> None:
    tell(progress(vault, counts))
