"""Unlocking, restoring, listing snapshots: who gets to see what of which vault, as of when."""

import pwd
from collections.abc import Mapping
from typing import NamedTuple

import trio

from agent.clock import Clock
from agent.control.gate_messages import (
    AskSnapshots,
    AskTimeline,
    Restore,
    Restored,
    SnapshotLine,
    Snapshots,
    Unlock,
    Unlocked,
)
from agent.control.messages import Message
from agent.control.server import Reply, progress_to
from agent.control.wire import Peer
from agent.gate.admission import Admission, Question
from agent.gate.broker import Broker, Wish
from agent.gate.choice import choose
from agent.gate.factors import PASSWORD, TOKEN, Proven
from agent.gate.policy import Action, VaultTarget
from agent.gate.requests import Handlers
from agent.gate.sessions import Session
from agent.gate.timeline import Chain, timeline
from agent.gate.times import Latest, parse_when
from agent.gate.users import User
from agent.gate.vaults import GateVault
from agent.model.snapshot import SnapshotInfo

MOST_LISTED = 10_000  # of about 200 bytes: half of the longest message


class Chosen(NamedTuple):
    """A snapshot as `choose` and a listing look at it."""

    id: str
    taken_ns: int
    info: SnapshotInfo


class Viewing:
    """Requests about the content of vaults."""

    def __init__(
        self, admission: Admission, broker: Broker, vaults: Mapping[str, GateVault], clock: Clock
    ) -> None:
        """Take the vaults by name."""
        self._admission = admission
        self._broker = broker
        self._vaults = vaults
        self._clock = clock

    def handlers(self) -> Handlers:
        """Return what is handled here."""
        return {
            Unlock: self._unlock,
            Restore: self._restore,
            AskSnapshots: self._snapshots,
            AskTimeline: self._timeline,
        }

    async def end_what_is_not_allowed(self) -> None:
        """Look at every live session again, and end those that would not be opened now."""
        users = {user.name: user for user in await self._admission.everybody()}
        factors = frozenset({PASSWORD, TOKEN})  # proven when the session began

        def is_refused(session: Session) -> bool:
            user = users.get(session.user)
            question = self._question(session.vault, Action(session.action))
            return user is None or not self._admission.decide(user, question, factors).allowed

        await self._broker.end_all("the policy changed", is_refused)

    async def _unlock(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, Unlock)  # noqa: S101 - by the table
        proven = await self._admission.proven(peer, request.factors, Action.UNLOCK)
        vault = await self._admitted(proven, Action.UNLOCK, request.vault, request.purpose)
        wish, chosen = await self._wish(peer, proven.user, vault, request.at)
        session, path = await self._broker.mount(wish)
        snapshot = chosen.info.snapshot
        return Unlocked(
            session=session.id,
            vault=session.vault,
            path=path,
            ends_ns=session.ends_ns,
            idle_s=session.idle_s,
            snapshot=chosen.id,
            taken_ns=snapshot.taken_ns,
            files=snapshot.files,
            complete=not snapshot.incomplete,
        )

    async def _restore(self, peer: Peer, request: Message, reply: Reply) -> Message:
        assert isinstance(request, Restore)  # noqa: S101 - by the table
        proven = await self._admission.proven(peer, request.factors, Action.RESTORE)
        vault = await self._admitted(proven, Action.RESTORE, request.vault, request.purpose)
        wish, chosen = await self._wish(peer, proven.user, vault, request.at)
        wish.details.update(target=request.target, paths=len(request.paths))
        async with progress_to(reply) as tell:
            session, result = await self._broker.restore(wish, request.target, request.paths, tell)
        return Restored(session.id, chosen.id, result.files, result.bytes, result.failed)

    async def _snapshots(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, AskSnapshots)  # noqa: S101 - by the table
        names = await self._listed(peer, request.vault)
        lines = [_line(name, one) for name in names for one in await self._chosen(name)]
        return Snapshots(tuple(lines[-MOST_LISTED:]), max(0, len(lines) - MOST_LISTED))

    async def _timeline(self, peer: Peer, request: Message, _: Reply) -> Message:
        assert isinstance(request, AskTimeline)  # noqa: S101 - by the table
        chains: list[Chain] = []
        for name in await self._listed(peer, request.vault):
            by_host: dict[bytes, list[SnapshotInfo]] = {}
            for one in await self._chosen(name):
                by_host.setdefault(one.info.snapshot.host, []).append(one.info)
            chains += [
                Chain(name, sorted(infos, key=lambda info: info.snapshot.sequence))
                for infos in by_host.values()
            ]
        return await trio.to_thread.run_sync(timeline, chains, request.by)

    async def _listed(self, peer: Peer, vault: str) -> list[str]:
        """Return the vaults whose snapshots the caller may list: the one asked for, or all."""
        user = await self._admission.known(peer)
        if not vault:
            return [
                name
                for name in sorted(self._vaults)
                if self._admission.decide(user, self._question(name)).allowed
            ]
        if vault not in self._vaults:
            await self._admission.unknown_vault(user, Action.LIST_SNAPSHOTS)
        await self._admission.admit_unrecorded(user, self._question(vault))
        return [vault]

    async def _admitted(self, proven: Proven, action: Action, name: str, purpose: str) -> GateVault:
        """Return the vault, once the policy has said yes and that is on record."""
        vault = self._vaults.get(name)
        if vault is None:
            await self._admission.unknown_vault(proven.user, action)
        question = self._question(name, action, purpose)
        await self._admission.admit(proven.user, question, proven.factors)
        return vault

    def _question(
        self, name: str, action: Action = Action.LIST_SNAPSHOTS, purpose: str = ""
    ) -> Question:
        keys = self._vaults[name].keys
        target = VaultTarget(name, keys.department, keys.level)
        return Question(action, target, name, purpose=purpose)

    async def _wish(self, peer: Peer, user: User, vault: GateVault, at: str) -> tuple[Wish, Chosen]:
        """Return what is granted: all snapshots, with `latest/` as of the moment asked for."""
        when = parse_when(at, self._clock.now_ns())
        found = await self._chosen(vault.keys.name)
        chosen = choose(when, found)
        latest_ns = found[-1].taken_ns if isinstance(when, Latest) else chosen.taken_ns
        wish = Wish(
            user=user.name,
            uid=peer.uid,
            gid=_group_of(peer),
            vault=vault,
            snapshots=[one.info for one in found],
            latest_ns=latest_ns,
            details={"snapshot": chosen.id},
        )
        return wish, chosen

    async def _chosen(self, name: str) -> list[Chosen]:
        infos = await trio.to_thread.run_sync(self._vaults[name].snapshots)
        return [Chosen(info.id.hex(), info.snapshot.taken_ns, info) for info in infos]


def _group_of(peer: Peer) -> int:
    try:
        return pwd.getpwuid(peer.uid).pw_gid
    except KeyError:
        return peer.gid


def _line(vault: str, one: Chosen) -> SnapshotLine:
    snapshot = one.info.snapshot
    return SnapshotLine(
        id=one.id,
        vault=vault,
        host=snapshot.host.hex(),
        sequence=snapshot.sequence,
        taken_ns=snapshot.taken_ns,
        files=snapshot.files,
        bytes=snapshot.bytes,
        added_bytes=snapshot.added_bytes,
        incomplete=len(snapshot.incomplete),
        trigger=snapshot.trigger,
    )
