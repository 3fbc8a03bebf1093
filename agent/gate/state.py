"""Where the gate keeps what is its own: users, audit, snapshots seen, copies of indexes."""

from pathlib import Path

from agent.audit.chain import AuditChain
from agent.audit.create import create_chain
from agent.audit.files import AuditFiles
from agent.clock import Clock
from agent.crypto.naming import derive
from agent.crypto.password import PasswordHasher
from agent.crypto.signing import SigningKey
from agent.gate.database import Database
from agent.gate.users import TokenKeys
from agent.model.ids import VaultId

ACTOR = "vitrine-gate"
_AUDIT_KEY = "vitrine 2026-11 gate audit signing"


class GateState:
    """The gate's state directory, and what the credential derives for it."""

    def __init__(self, directory: Path, credential: bytes) -> None:
        """Take the directory, mode 0700, and the gate's 32 bytes."""
        self._directory = directory
        self.signer = SigningKey(derive(_AUDIT_KEY, credential))
        self.token_keys = TokenKeys(credential)
        self.hasher = PasswordHasher()
        self.audit = AuditFiles.under(directory / "audit")
        self.seen = directory / "seen.json"

    def create(self, clock: Clock) -> None:
        """Make the directory and the audit's first record; raise ConfigInvalid if there is one."""
        self.audit.chain.parent.mkdir(parents=True, mode=0o700)
        create_chain(self.audit, self.signer, clock, ACTOR)

    def open_audit(self, clock: Clock) -> AuditChain:
        """Return the chain, as its only writer."""
        return AuditChain(self.audit, self.signer, clock, ACTOR)

    def open_database(self) -> Database:
        """Return the database of users."""
        return Database(self._directory / "users.sqlite")

    def index_cache(self, vault: VaultId) -> Path:
        """Return the directory of a vault's opened index objects."""
        return self._directory / "index" / vault.hex()
