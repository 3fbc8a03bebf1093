"""The gate as a process: wiring, nothing else."""

import logging
import platform
from contextlib import ExitStack
from pathlib import Path

import trio

from agent.audit.chain import AuditChain
from agent.audit.records import Event, Outcome
from agent.clock import SystemClock
from agent.config import GateConfig, load
from agent.control.daemon import Notifier, listener_at, log_plainly, until_signal
from agent.control.hardening import harden
from agent.control.server import serve
from agent.crypto.keyfiles import load_credential, load_keys
from agent.crypto.secrets import ReaderKeys
from agent.errors import ConfigInvalid
from agent.gate.administration import Administration
from agent.gate.admission import Admission
from agent.gate.attempts import Attempts
from agent.gate.broker import Broker, Limits
from agent.gate.factors import FactorCheck
from agent.gate.oversight import Oversight
from agent.gate.policy import Policy
from agent.gate.reload import PolicyInForce
from agent.gate.requests import Requests
from agent.gate.sessions import SessionTable
from agent.gate.state import ACTOR, GateState
from agent.gate.users import Users
from agent.gate.vaults import GateVault
from agent.gate.viewing import Viewing
from agent.repository.seen import SeenChains
from agent.repository.vaults import open_repository
from agent.store.local import LocalStore

SOCKET_MODE = 0o666  # everybody may ask: the kernel says who does (docs/systemd.md)

log = logging.getLogger(__name__)


def run(path: Path) -> None:
    """Run the gate that `path` configures, until a signal; raise what keeps it from starting."""
    harden()
    log_plainly()
    trio.run(_main, load(path, GateConfig))


async def _main(config: GateConfig) -> None:
    with ExitStack() as stack:
        gate = _Gate(config, stack)
        await until_signal(gate.serve, gate.policy.reload)


class _Gate:
    """Everything that one gate is made of."""

    def __init__(self, config: GateConfig, stack: ExitStack) -> None:
        self._config = config
        self._clock = SystemClock()
        self._notifier = Notifier()
        credential = load_credential(Path(config.credential))
        store = LocalStore(Path(config.repository))
        stack.callback(store.close)
        open_repository(store)
        self._state = GateState(Path(config.state_dir), credential)
        database = self._state.open_database()
        stack.callback(database.close)
        self._vaults = _vaults(config, store, credential, self._state)
        self._users = Users(database, self._state.token_keys, self._state.hasher)
        attempts = Attempts(database, self._state.token_keys)
        self._factors = FactorCheck(attempts, self._state.hasher, self._clock)
        self._audit: AuditChain = self._state.open_audit(self._clock)
        stack.callback(self._audit.close)
        directory = Path(config.policy_dir) if config.policy_dir else None
        self.policy = PolicyInForce(Policy(directory), directory, self._audit)

    async def serve(self) -> None:
        """Listen, and answer until cancelled; then every session ends before the audit closes."""
        config = self._config
        listener = await listener_at(config.socket, SOCKET_MODE)
        limits = Limits(config.absolute_seconds, config.idle_seconds, config.cache_bytes)
        table = SessionTable(self._clock)
        async with trio.open_nursery() as nursery:
            broker = Broker(
                table, self._audit, self._clock, limits, nursery,
                config.launcher_socket, config.repository,
            )  # fmt: skip
            viewing, requests = self._requests(broker)
            await broker.record(Event.SERVICE_STARTED, Outcome.SUCCESS, ACTOR, "")
            self.policy.on_change(viewing.end_what_is_not_allowed)
            nursery.start_soon(broker.keep_limits)
            nursery.start_soon(self._notifier.keep_alive, self._audit_works)
            try:
                async with trio.open_nursery() as serving:
                    await serving.start(serve, listener, requests.handle)
                    self._notifier.ready(f"{len(self._vaults)} vaults")
                    log.info("the gate listens; vaults: %d", len(self._vaults))
            finally:
                with trio.CancelScope(shield=True):
                    self._notifier.stopping()
                    await broker.end_all("the gate stops", lambda _: True)
                    await broker.record(Event.SERVICE_STOPPED, Outcome.SUCCESS, ACTOR, "")
                nursery.cancel_scope.cancel()

    def _requests(self, broker: Broker) -> tuple[Viewing, Requests]:
        admission = Admission(
            self._users, self._factors, self.policy.current, broker.record, self._clock,
            platform.node(),
        )  # fmt: skip
        viewing = Viewing(admission, broker, self._vaults, self._clock)
        people = Administration(admission, broker, self._users)
        oversight = Oversight(
            admission, broker, self._vaults, self._state.audit, self._state.signer.verify_key(),
            self._config.repository,
        )  # fmt: skip
        handled = Requests(viewing.handlers(), people.handlers(), oversight.handlers())
        return viewing, handled

    async def _audit_works(self) -> None:
        """Let the watchdog bark where the audit's disk hangs: without it nothing is released."""
        await trio.to_thread.run_sync(self._state.audit.chain.stat)


def _vaults(
    config: GateConfig, store: LocalStore, credential: bytes, state: GateState
) -> dict[str, GateVault]:
    """Return the vaults by name, from their key files."""
    seen = SeenChains(state.seen)
    vaults: dict[str, GateVault] = {}
    for one in config.vault:
        keys = load_keys(Path(one.keys), ReaderKeys)
        if keys.name != one.name or one.name in vaults:
            raise ConfigInvalid(f"{one.keys} does not hold the keys of a vault {one.name!r}")
        cache = state.index_cache(keys.vault)
        vaults[one.name] = GateVault(keys, store, cache, credential, seen)
    return vaults
