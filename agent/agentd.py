"""The agent as a daemon: wiring, nothing else."""

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from agent.agentrun import Agent
from agent.audit.records import Event, Outcome
from agent.backup.protect import Timing, VaultProtection
from agent.backup.run import VaultBackup
from agent.backup.service import AgentService
from agent.backup.state import ACTOR
from agent.config import AgentConfig, load
from agent.control.daemon import Notifier, listener_at, log_plainly, until_signal
from agent.control.hardening import REPOSITORY_UMASK, harden
from agent.control.server import serve

SOCKET_MODE = 0o660  # root, the agent's user and its group may ask: the kernel keeps the others out

log = logging.getLogger(__name__)


def run(path: Path) -> None:
    """Run the agent that `path` configures, until a signal; raise what keeps it from starting."""
    harden(REPOSITORY_UMASK)
    log_plainly()
    trio.run(_main, load(path, AgentConfig))


async def _main(config: AgentConfig) -> None:
    with ExitStack() as stack:
        agent = Agent(config, stack)
        await until_signal(partial(_Daemon(agent, config).serve))


class _Daemon:
    """Protects every vault, and answers on the admin socket."""

    def __init__(self, agent: Agent, config: AgentConfig) -> None:
        self._agent = agent
        self._config = config
        self._notifier = Notifier()
        timing = Timing(
            config.settle_seconds, config.max_wait_seconds, config.scan_interval_seconds
        )
        self._vaults: dict[str, VaultProtection] = {}
        for vault in config.vault:
            steps, sources = agent.open(vault)
            backup = VaultBackup(steps, agent.clock)
            failed = partial(agent.record_failure, vault.name)
            self._vaults[vault.name] = VaultProtection(
                vault.name, backup, sources, timing, agent.clock, failed
            )

    async def serve(self) -> None:
        """Listen, protect, answer, until cancelled."""
        listener = await listener_at(self._config.socket, SOCKET_MODE)
        await self._record(Event.SERVICE_STARTED)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notifier.keep_alive, trio.lowlevel.checkpoint)
                service = AgentService(self._vaults, self._config.repository)
                await nursery.start(serve, listener, service.handle)
                for vault in self._vaults.values():
                    await nursery.start(vault.run)
                self._notifier.ready(f"{len(self._vaults)} vaults are protected")
                log.info("the agent watches; vaults: %d", len(self._vaults))
        finally:
            with trio.CancelScope(shield=True):
                self._notifier.stopping()
                await self._record(Event.SERVICE_STOPPED)

    async def _record(self, event: Event) -> None:
        append = partial(self._agent.audit.append, event, Outcome.SUCCESS, actor=ACTOR)
        await trio.to_thread.run_sync(append)
