"""Where maintenance keeps what is its own: its audit, copies of indexes, what it has seen."""

from pathlib import Path

from agent.audit.chain import AuditChain
from agent.audit.create import create_chain
from agent.audit.directory import StateDirectory
from agent.audit.files import AuditFiles
from agent.clock import Clock
from agent.crypto.naming import derive
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid
from agent.model.ids import VaultId

ACTOR = "vitrine-maintenance"
_AUDIT_KEY = "vitrine 2026-11 maintenance audit signing"


class MaintenanceState:
    """The state directory, locked for one process; `close` it."""

    def __init__(self, directory: Path, credential: bytes, clock: Clock) -> None:
        """Take the directory, and begin its audit if it is new.

        Raises ConfigInvalid where another run uses it, or it cannot be used.  An audit that is
        gone from a directory in use is not begun anew: `open_audit` then says so.
        """
        self.directory = directory
        self.signer = SigningKey(derive(_AUDIT_KEY, credential))
        self.audit = AuditFiles.under(directory / "audit")
        self.seen = directory / "seen.json"
        self._clock = clock
        busy = ConfigInvalid(
            "maintenance of this repository is under way already",
            hint="wait until it ends: `systemctl status vitrine-maintenance`",
        )
        self._own = StateDirectory(directory, busy, "the user that maintains", self._begin_audit)

    def close(self) -> None:
        """Let another run have it."""
        self._own.close()

    def open_audit(self) -> AuditChain:
        """Return the chain, as its only writer; raise AuditBroken where it is gone or changed."""
        return AuditChain(self.audit, self.signer, self._clock, ACTOR)

    def index_cache(self, vault: VaultId) -> Path:
        """Return the directory of a vault's opened index objects."""
        return self.directory / "index" / vault.hex()

    def _begin_audit(self) -> None:
        self.audit.chain.parent.mkdir(mode=0o700)
        create_chain(self.audit, self.signer, self._clock, ACTOR)
