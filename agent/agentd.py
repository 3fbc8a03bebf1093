"""The agent as a process: wiring, nothing else."""

import fcntl
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import trio

from agent.audit.chain import AuditChain
from agent.audit.create import create_chain
from agent.audit.files import AuditFiles
from agent.audit.records import Event, Outcome
from agent.backup.patterns import Patterns, own_paths
from agent.backup.pipeline import Counts
from agent.backup.protect import Timing, VaultProtection
from agent.backup.run import Outcome as RunOutcome
from agent.backup.run import Request, VaultBackup
from agent.backup.service import AgentService
from agent.backup.sources import Source
from agent.clock import SystemClock
from agent.config import AgentConfig, AgentVaultConfig, SourceConfig, load
from agent.control.daemon import Notifier, harden, listener_at, log_plainly, until_signal
from agent.control.server import serve
from agent.crypto.keyfiles import load_credential, load_keys, save_credential
from agent.crypto.secrets import WriterKeys
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid, VitrineError
from agent.model.snapshot import SnapshotInfo, Trigger
from agent.repository.vaults import open_repository
from agent.store.local import LocalStore

SOCKET_MODE = 0o600
ACTOR = "vitrine-agent"
# Two reading threads: a thread that comes back from compressing must not wait 5 ms for another
# that is between two small files (docs/decisions/0008-threads.md)
SWITCH_INTERVAL_S = 0.0005

log = logging.getLogger(__name__)


def run(path: Path) -> None:
    """Run the agent that `path` configures, until a signal."""
    harden()
    log_plainly()
    trio.run(_main, load(path, AgentConfig))


def snapshot_once(
    path: Path, vault: str, *, full: bool, on_progress: Callable[[str, Counts], None]
) -> list[tuple[str, RunOutcome]]:
    """Take one snapshot of each vault, or of the one named, without a daemon.

    Raises ConfigInvalid where a daemon has the state directory.
    """
    with ExitStack() as stack:
        agent = Agent(load(path, AgentConfig), stack)
        request = Request(Trigger.REQUEST, full=full)
        return [
            (name, trio.run(backup.run, request, partial(on_progress, name)))
            for name, (backup, _) in agent.backups.items()
            if not vault or name == vault
        ]


async def _main(config: AgentConfig) -> None:
    with ExitStack() as stack:
        agent = Agent(config, stack)
        await until_signal(agent.serve)


class Agent:
    """Everything that one agent is made of."""

    def __init__(self, config: AgentConfig, stack: ExitStack) -> None:
        """Take the state directory for this process alone, and open what the vaults need."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._config = config
        self._clock = SystemClock()
        state = Path(config.state_dir)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(_alone(state))
        self._store = LocalStore(Path(config.repository))
        stack.callback(self._store.close)
        open_repository(self._store)
        self._audit = _audit(state, self._clock)
        stack.callback(self._audit.close)
        self.backups: dict[str, tuple[VaultBackup, list[Source]]] = {}
        for vault in config.vault:
            if vault.name in self.backups:
                raise ConfigInvalid(f"agent.toml has two vaults {vault.name!r}")
            self.backups[vault.name] = self._backup(vault)

    async def serve(self) -> None:
        """Protect every vault, and answer, until cancelled."""
        config, notifier = self._config, Notifier()
        timing = Timing(
            config.settle_seconds, config.max_wait_seconds, config.scan_interval_seconds
        )
        vaults = {
            name: VaultProtection(
                name, backup, sources, timing, self._clock, partial(self._failed, name)
            )
            for name, (backup, sources) in self.backups.items()
        }
        listener = await listener_at(config.socket, SOCKET_MODE)
        service = AgentService(vaults, config.repository)
        self._record(Event.SERVICE_STARTED, Outcome.SUCCESS, "")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, listener, service.handle)
            notifier.ready(f"{len(vaults)} vaults")
            nursery.start_soon(notifier.keep_alive, trio.lowlevel.checkpoint)
            for vault in vaults.values():
                nursery.start_soon(vault.run)
            log.info("the agent protects; vaults: %d", len(vaults))

    def _backup(self, vault: AgentVaultConfig) -> tuple[VaultBackup, list[Source]]:
        keys = load_keys(Path(vault.keys), WriterKeys)
        ours = [os.fsencode(self._config.repository), os.fsencode(self._config.state_dir)]
        sources = [_source(one, ours) for one in vault.source]
        labels = {source.label for source in sources}
        if not sources or len(labels) != len(sources):
            raise ConfigInvalid(
                f"vault {vault.name!r} has no source, or two with one label",
                hint="give each source a `label` of its own",
            )
        state = Path(self._config.state_dir) / keys.vault.hex()
        record = partial(self._taken, vault.name)
        return VaultBackup(self._store, keys, sources, state, self._clock, record), sources

    def _taken(self, vault: str, info: SnapshotInfo) -> None:
        snapshot = info.snapshot
        self._record(
            Event.SNAPSHOT_TAKEN,
            Outcome.SUCCESS,
            vault,
            snapshot=info.id.hex(),
            sequence=snapshot.sequence,
            files=snapshot.files,
            bytes=snapshot.bytes,
            added_bytes=snapshot.added_bytes,
            incomplete=len(snapshot.incomplete),
        )

    def _failed(self, vault: str, error: VitrineError) -> None:
        self._record(Event.SNAPSHOT_FAILED, Outcome.FAILED, vault, why=type(error).__name__)

    def _record(self, event: Event, outcome: Outcome, target: str, **details: str | int) -> None:
        self._audit.append(event, outcome, actor=ACTOR, target=target, details=dict(details))


def _source(config: SourceConfig, ours: list[bytes]) -> Source:
    path = os.fsencode(config.path)
    if not path.startswith(b"/"):
        raise ConfigInvalid(f"the source {config.path} is no absolute path")
    label = os.fsencode(config.label or Path(config.path).name or "root")
    if b"/" in label or label in {b".", b".."}:
        raise ConfigInvalid(f"{config.label!r} is no label for a source: it becomes a directory")
    own = own_paths(path, ours)
    return Source(path, label, Patterns(config.include, config.exclude, own))


def _audit(state: Path, clock: SystemClock) -> AuditChain:
    """Return the agent's own chain; the first start makes it, with a key of its own."""
    key, files = state / "audit.key", AuditFiles.under(state / "audit")
    if not key.exists():
        files.chain.parent.mkdir(mode=0o700, exist_ok=True)
        save_credential(key, SigningKey.generate().raw)
        create_chain(files, SigningKey(load_credential(key)), clock, ACTOR)
    return AuditChain(files, SigningKey(load_credential(key)), clock, ACTOR)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the state directory for this process; raise ConfigInvalid where another one does."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigInvalid(
            f"another agent uses {state}", hint="ask that one: `vitrine snapshot`, `vitrine status`"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
