"""Maintenance as a process: wiring, nothing else.  It runs beside the gate, never with the agent.

It holds a keyslot of its own, so that it can be given to another host, and taken away, by itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.audit.chain import AuditChain
from agent.clock import Clock, SystemClock
from agent.config import MaintenanceConfig, load
from agent.control.hardening import REPOSITORY_UMASK, harden
from agent.crypto.keyfiles import load_credential, load_keys
from agent.crypto.secrets import ReaderKeys, VaultSecrets
from agent.errors import ConfigInvalid, NotFound
from agent.maintenance.state import MaintenanceState
from agent.model.snapshot import SnapshotInfo
from agent.repository.chain import Chains
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.live import live_snapshots
from agent.repository.packkeys import OpeningKeys
from agent.repository.reader import VaultReader
from agent.repository.seen import SeenChains
from agent.repository.vaults import enrolled_writers, open_repository, secrets_by_credential
from agent.store.base import Store
from agent.store.local import LocalStore

CACHE_BYTES = 96 * 1024 * 1024  # of decoded frames, as `vitrine recover`


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What every maintenance job works with."""

    config: MaintenanceConfig
    store: Store
    clock: Clock
    state: MaintenanceState
    audit: AuditChain
    vaults: Mapping[str, ReaderKeys]  # by name
    credential: bytes

    def vault(self, name: str) -> ReaderKeys:
        """Return a vault's keys at rest; raise NotFound naming those that there are."""
        keys = self.vaults.get(name)
        if keys is None:
            known = ", ".join(sorted(self.vaults)) or "none"
            raise NotFound(f"maintenance knows no vault {name!r}", hint=f"it knows: {known}")
        return keys

    def snapshots(self, keys: ReaderKeys) -> list[SnapshotInfo]:
        """Return a vault's snapshots, host by host in order, their chains verified.

        Raises ChainBroken where one ends before what maintenance has seen: what lost snapshots
        need must not be taken for waste.
        """
        writers = enrolled_writers(self.store, keys.vault, keys.authority_key())
        chains = Chains(self.store, keys.vault, keys.index(), writers)
        found, removals = live_snapshots(self.store, keys, chains)
        SeenChains(self.state.seen).check(keys.vault, found, removals)
        return found

    def newest(self, keys: ReaderKeys) -> list[SnapshotInfo]:
        """Return the newest snapshot of each host of a vault."""
        last = {info.snapshot.host: info for info in self.snapshots(keys)}
        return list(last.values())

    def index(self, keys: ReaderKeys) -> IndexCache:
        """Return the local copies of a vault's index, not refreshed yet."""
        directory = self.state.index_cache(keys.vault)
        return IndexCache(directory, self.store, keys.vault, keys.index())

    def frames(self, keys: ReaderKeys) -> FrameReader:
        """Unwrap a vault's opening keys and return what opens its frames."""
        opening = OpeningKeys.of(self.secrets(keys))
        return FrameReader(self.store, keys.vault, opening, cache_bytes=CACHE_BYTES)

    def reader(self, keys: ReaderKeys) -> VaultReader:
        """Return a reader over what is stored in a vault now, with its opening keys."""
        return VaultReader(self.frames(keys), self.index(keys).refresh(), keys.ids())

    def secrets(self, keys: ReaderKeys) -> VaultSecrets:
        """Unwrap everything about a vault, for a job that needs it; raise WrongKey."""
        return secrets_by_credential(self.store, keys, self.credential)


@contextmanager
def maintenance(path: Path) -> Iterator[Maintenance]:
    """Open what `path` configures, as the one thing that this process does; see `opened`."""
    harden(REPOSITORY_UMASK)
    with opened(path) as work:
        yield work


@contextmanager
def opened(path: Path) -> Iterator[Maintenance]:
    """Open what `path` configures, for one run; raise ConfigInvalid where another is under way.

    The process stays as it is: of one that does other things, too.
    """
    config = load(path, MaintenanceConfig)
    credential = load_credential(Path(config.credential))
    clock = SystemClock()
    with ExitStack() as stack:
        store = LocalStore(Path(config.repository))
        stack.callback(store.close)
        open_repository(store)
        state = MaintenanceState(Path(config.state_dir), credential, clock)
        stack.callback(state.close)
        audit = state.open_audit()
        stack.callback(audit.close)
        yield Maintenance(config, store, clock, state, audit, _vaults(config), credential)


def _vaults(config: MaintenanceConfig) -> dict[str, ReaderKeys]:
    vaults: dict[str, ReaderKeys] = {}
    for one in config.vault:
        keys = load_keys(Path(one.keys), ReaderKeys)
        if keys.name != one.name or one.name in vaults:
            raise ConfigInvalid(f"{one.keys} does not hold the keys of a vault {one.name!r}")
        vaults[one.name] = keys
    return vaults
