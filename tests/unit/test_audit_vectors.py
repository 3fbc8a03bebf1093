"""The audit's bytes are those of version 1: a chain that was written then still verifies."""

from pathlib import Path

from agent.audit.files import AuditFiles
from agent.audit.verify import verify_chain
from agent.crypto.signing import SigningKey
from tests.fakes.audit import AuditKit
from tests.fakes.clock import FakeClock

FROZEN = AuditFiles.under(Path(__file__).parents[1] / "vectors" / "audit")
SIGNER = SigningKey(bytes(range(32)))


def test_frozen_chain_verifies() -> None:
    """Later versions read what this one wrote."""
    verified = verify_chain(FROZEN, SIGNER.verify_key())
    assert (verified.records, verified.signatures, verified.unconfirmed) == (7, 1, 0)


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing in a chain is left to chance: clock and key settle every byte."""
    kit = AuditKit(tmp_path, FakeClock(), SIGNER)
    kit.grown(3)
    assert kit.files.chain.read_bytes() == FROZEN.chain.read_bytes()
    assert kit.files.head.read_bytes() == FROZEN.head.read_bytes()
