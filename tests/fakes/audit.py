"""A real audit chain in a test's directory, with a key of its own."""

from pathlib import Path

from agent.audit.chain import AuditChain
from agent.audit.create import create_chain
from agent.audit.files import AuditFiles
from agent.audit.records import Event, Outcome
from agent.crypto.signing import SigningKey
from tests.fakes.clock import FakeClock

SMALL_RESERVE_BYTES = 64 * 1024


class AuditKit:
    """Everything that a chain is made with; `opened` opens it, `grown` fills it."""

    def __init__(self, directory: Path, clock: FakeClock, signer: SigningKey | None = None) -> None:
        """Create the chain in `directory`, which is there."""
        self.files = AuditFiles.under(directory)
        self.signer = signer or SigningKey.generate()
        self.key = self.signer.verify_key()
        self.clock = clock
        self._opened: list[AuditChain] = []
        create_chain(self.files, self.signer, clock, "vitrine-gate")

    def opened(self, reserve_bytes: int = SMALL_RESERVE_BYTES) -> AuditChain:
        """Return the chain, opened."""
        chain = AuditChain(self.files, self.signer, self.clock, "vitrine-gate", reserve_bytes)
        self._opened.append(chain)
        return chain

    def crash(self) -> None:
        """Let go of every open chain as the end of a process does: without a last record."""
        for chain in self._opened:
            if not chain._closed:
                chain._let_go()

    def grown(self, records: int) -> None:
        """Open the chain, append `records` records, close it."""
        chain = self.opened()
        for number in range(records):
            note(chain, f"user{number}")
        chain.close()


def note(chain: AuditChain, actor: str = "doctor1", event: Event = Event.SESSION_STARTED) -> None:
    """Append one ordinary record."""
    chain.append(
        event, Outcome.SUCCESS, actor=actor, action="unlock", target="radiology",
        details={"session": "00112233aabbccdd", "files": 3},
    )  # fmt: skip
