"""Where the agent keeps what is its own: journals, copies of indexes, its audit; and for itself."""

import os
from pathlib import Path

from agent.audit.chain import AuditChain
from agent.audit.create import create_chain
from agent.audit.directory import StateDirectory
from agent.audit.files import AuditFiles
from agent.clock import Clock
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid
from agent.model.ids import VaultId

ACTOR = "vitrine-agent"


class AgentState:
    """The agent's state directory, locked for one process; `close` it."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Take the directory, and begin its audit if it is new.

        Raises ConfigInvalid where another agent uses it, or it cannot be used.  An audit that is
        gone from a directory in use is not begun anew: `open_audit` then says so.
        """
        self._directory = directory
        self._clock = clock
        self._key = directory / "audit.key"
        self._files = AuditFiles.under(directory / "audit")
        busy = ConfigInvalid(
            f"another agent uses {directory}", hint="stop it first, or ask it for a snapshot"
        )
        self._own = StateDirectory(directory, busy, "the agent's user", self._begin_audit)

    def close(self) -> None:
        """Let another agent have it."""
        self._own.close()

    def open_audit(self) -> AuditChain:
        """Return the chain, as its only writer; raise AuditBroken where it or its key is gone."""
        signer = SigningKey(self._key.read_bytes() if self._key.exists() else bytes(32))
        return AuditChain(self._files, signer, self._clock, ACTOR)

    def vault(self, vault: VaultId) -> Path:
        """Return the directory of a vault's journal and index copies."""
        return self._directory / vault.hex()

    def _begin_audit(self) -> None:
        signer = SigningKey.generate()
        descriptor = os.open(self._key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.raw)
            file.flush()
            os.fsync(file.fileno())
        self._files.chain.parent.mkdir(mode=0o700)
        create_chain(self._files, signer, self._clock, ACTOR)
