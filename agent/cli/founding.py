"""Founding a repository, a gate and vaults: what `vitrine init` makes, in an order that is safe.

Nothing that exists is written over.  The vault counts from the moment its keyslots are stored; an
interruption before that leaves files that the next `init` names.
"""

import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.config import (
    AgentConfig,
    AgentVaultConfig,
    ClientConfig,
    GateConfig,
    GateVaultConfig,
    LauncherConfig,
    MaintenanceConfig,
    MaintenanceVaultConfig,
    SourceConfig,
    load,
    save,
)
from agent.crypto.keyfiles import load_credential, save_credential, save_keys
from agent.crypto.keyslots import CREDENTIAL_BYTES, wrap_for_credential, wrap_for_passphrase
from agent.crypto.secrets import VaultSecrets
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid
from agent.gate.state import GateState
from agent.gate.users import Enrolled, Users
from agent.repository.vaults import add_slot, create_repository, enrol_writer, open_repository
from agent.store.local import LocalStore

SYSTEM_CONFIG = Path("/etc/vitrine")
MAX_SOCKET_PATH = 100  # sun_path has 108 bytes
_AGENT_FILE, _GATE_FILE, _MAINTENANCE_FILE = "agent.toml", "gate.toml", "maintenance.toml"
_HOLDERS = ("agent", "gate", "maintenance")  # each has a directory of key files


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of one installation lies."""

    config: Path
    repository: Path
    runtime: Path
    state: Path

    @classmethod
    def of(cls, config: Path, repository: Path) -> "Places":
        """Return the places: those of a system for /etc/vitrine, else below the directory."""
        if config == SYSTEM_CONFIG:
            return cls(config, repository, Path("/run/vitrine"), Path("/var/lib/vitrine"))
        places = cls(config, repository, config / "run", config / "state")
        if len(str(places.socket("launcher"))) > MAX_SOCKET_PATH:
            raise ConfigInvalid(
                f"{config} is too long a path for a Unix socket below it",
                hint="choose a shorter --config-dir",
            )
        return places

    def socket(self, service: str) -> Path:
        """Return a service's socket."""
        return self.runtime / f"{service}.sock"

    def keys(self, holder: str, vault: str) -> Path:
        """Return the file of a vault's keys for the agent, the gate or maintenance."""
        return self.config / f"{holder}.keys" / f"{vault}.json"

    def file(self, name: str) -> Path:
        """Return a file of the configuration."""
        return self.config / name

    @property
    def credential(self) -> Path:
        """Where the gate's credential lies."""
        return self.config / "gate.keys" / "credential"

    @property
    def maintenance_credential(self) -> Path:
        """Where the credential of maintenance lies."""
        return self.config / "maintenance.keys" / "credential"


@dataclass(frozen=True, slots=True)
class NewVault:
    """A vault to be made."""

    name: str
    department: str
    level: int
    sources: Sequence[SourceConfig]
    passphrase: str


@dataclass(frozen=True, slots=True)
class Administrator:
    """The first administrator of a new gate."""

    name: str
    uid: int
    roles: Sequence[str]
    department: str
    password: str


def check_vault(places: Places, name: str, clock: Clock) -> None:
    """Raise what would keep the vault from being made; makes the repository where there is none.

    Before a gate is founded: what enrols its administrator is shown once.
    """
    _, gate = _known(places, settle_seconds=0.0)  # not saved
    if any(known.name == name for known in gate.vault):
        raise ConfigInvalid(
            f"there is a vault {name!r} already",
            hint="choose another name, or see `vitrine status`",
        )
    _store(places, clock).close()


def found_vault(places: Places, vault: NewVault, settle_seconds: float, clock: Clock) -> None:
    """Make the vault and its keys, and add it to the configuration of agent and gate."""
    _make_directories(places)
    agent, gate = _known(places, settle_seconds)
    kept = _maintained(places)
    store = _store(places, clock)
    try:
        _make_keys(places, store, vault)
    finally:
        store.close()
    bundle, reader, keeper = (str(places.keys(one, vault.name)) for one in _HOLDERS)
    agent_vault = AgentVaultConfig(vault.name, bundle, tuple(vault.sources))
    gate_vault = GateVaultConfig(vault.name, reader)
    kept_vault = MaintenanceVaultConfig(vault.name, keeper)
    kept = msgspec.structs.replace(kept, vault=(*kept.vault, kept_vault))
    agent = msgspec.structs.replace(agent, vault=(*agent.vault, agent_vault))
    gate = msgspec.structs.replace(gate, vault=(*gate.vault, gate_vault))
    save(places.file(_AGENT_FILE), agent, 0o640)
    save(places.file(_GATE_FILE), gate, 0o640)
    save(places.file(_MAINTENANCE_FILE), kept, 0o640)
    _save_once(places)


def found_gate(places: Places, administrator: Administrator, clock: Clock) -> Enrolled:
    """Make a gate's credential, audit and first administrator; return what enrols their token."""
    _make_directories(places)
    for path in (places.credential, places.maintenance_credential):
        save_credential(path, secrets.token_bytes(CREDENTIAL_BYTES))
    state = GateState(places.state / "gate", load_credential(places.credential))
    state.create(clock)
    database = state.open_database()
    try:
        return Users(database, state.token_keys, state.hasher).add(
            administrator.name,
            administrator.uid,
            administrator.roles,
            administrator.department,
            administrator.password,
        )
    finally:
        database.close()


def has_gate(places: Places) -> bool:
    """Tell whether a gate was founded here before."""
    return places.credential.exists()


def _make_directories(places: Places) -> None:
    for path, mode in (
        (places.config, 0o755),  # client.toml is for everybody
        *((places.config / f"{holder}.keys", 0o700) for holder in _HOLDERS),
        (places.state, 0o711),
        (places.state / "agent", 0o700),
        (places.runtime, 0o755),
    ):
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigInvalid(f"{path} cannot be made: {error.strerror}") from error


def _known(places: Places, settle_seconds: float) -> tuple[AgentConfig, GateConfig]:
    """Return the configurations as they are, or those of a new installation."""
    if places.file(_GATE_FILE).exists():
        agent = load(places.file(_AGENT_FILE), AgentConfig)
        gate = load(places.file(_GATE_FILE), GateConfig)
        if Path(gate.repository) != places.repository:
            raise ConfigInvalid(
                f"this configuration is of the repository {gate.repository}",
                hint="name that one, or another --config-dir",
            )
        return agent, gate
    agent = AgentConfig(
        repository=str(places.repository),
        state_dir=str(places.state / "agent"),
        socket=str(places.socket("agent")),
        vault=(),
        settle_seconds=settle_seconds,
    )
    gate = GateConfig(
        repository=str(places.repository),
        state_dir=str(places.state / "gate"),
        socket=str(places.socket("gate")),
        launcher_socket=str(places.socket("launcher")),
        credential=str(places.credential),
        vault=(),
    )
    return agent, gate


def _maintained(places: Places) -> MaintenanceConfig:
    """Return the configuration of maintenance as it is, or that of a new installation."""
    path = places.file(_MAINTENANCE_FILE)
    if path.exists():
        return load(path, MaintenanceConfig)
    return MaintenanceConfig(
        repository=str(places.repository),
        state_dir=str(places.state / "maintenance"),
        credential=str(places.maintenance_credential),
        vault=(),
    )


def _store(places: Places, clock: Clock) -> LocalStore:
    if not (places.repository / "repository").exists():
        if places.repository.exists() and any(places.repository.iterdir()):
            raise ConfigInvalid(
                f"{places.repository} holds something else", hint="choose an empty directory"
            )
        store = LocalStore.create(places.repository)
        create_repository(store, clock.now_ns())
        return store
    store = LocalStore(places.repository)
    open_repository(store)
    return store


def _make_keys(places: Places, store: LocalStore, vault: NewVault) -> None:
    """Make the vault's keys, a file for each holder, and its keyslots."""
    vault_secrets = VaultSecrets.generate(vault.name, vault.department, vault.level)
    signing = SigningKey.generate()
    save_keys(places.keys("agent", vault.name), vault_secrets.writer(signing.raw))
    for holder in ("gate", "maintenance"):
        save_keys(places.keys(holder, vault.name), vault_secrets.reader())
    enrol_writer(store, vault_secrets, platform.node(), signing.verify_key().raw)
    add_slot(store, wrap_for_passphrase(vault_secrets, vault.passphrase, "recovery"))
    for label, path in (
        ("gate", places.credential),
        ("maintenance", places.maintenance_credential),
    ):
        add_slot(store, wrap_for_credential(vault_secrets, load_credential(path), label))


def _save_once(places: Places) -> None:
    """Write what the first vault's `init` writes; later ones find it."""
    if not places.file("launcher.toml").exists():
        launcher = LauncherConfig(str(places.socket("launcher")), str(places.runtime / "mounts"))
        save(places.file("launcher.toml"), launcher, 0o640)
    if not places.file("client.toml").exists():
        client = ClientConfig(
            str(places.repository), str(places.socket("agent")), str(places.socket("gate"))
        )
        save(places.file("client.toml"), client, 0o644)
