"""The gate's users in a test's directory, with passwords that cost nothing to check."""

from dataclasses import dataclass
from pathlib import Path

from agent.control.gate_messages import Factors
from agent.crypto.keyslots import PassphraseCost
from agent.crypto.password import PasswordHasher
from agent.gate.attempts import Attempts
from agent.gate.database import Database
from agent.gate.factors import FactorCheck
from agent.gate.users import Enrolled, TokenKeys, Users
from tests.fakes.clock import FakeClock

CHEAP = PassphraseCost(64, 1, 1)
PASSWORD = "correct horse battery"
CREDENTIAL = bytes(range(32))


@dataclass(slots=True)
class GateKit:
    """One process's view of the users' file; make a second one for a second process."""

    path: Path
    clock: FakeClock
    database: Database
    users: Users
    attempts: Attempts
    check: FactorCheck

    def enrolled(self, name: str = "doctor1", uid: int = 1001) -> Enrolled:
        """Add a doctor of radiology."""
        return self.users.add(name, uid, ["doctor"], "radiology", PASSWORD)

    def right(self, who: Enrolled) -> Factors:
        """Return the factors that prove `who` now."""
        return Factors(PASSWORD, who.token.code(self.clock.now_ns()))

    def failures(self, name: str = "doctor1") -> int:
        """Return the failures that are on disk."""
        with self.database.transaction() as db:
            row = db.execute("SELECT failures FROM users WHERE name = ?", (name,)).fetchone()
            return int(row[0])


def gate_kit(
    path: Path,
    clock: FakeClock,
    credential: bytes = CREDENTIAL,
    hasher: PasswordHasher | None = None,
) -> GateKit:
    """Open the users' file at `path`, as a process that starts does."""
    hasher = hasher or PasswordHasher(CHEAP)
    database, keys = Database(path), TokenKeys(credential)
    attempts = Attempts(database, keys)
    check = FactorCheck(attempts, hasher, clock)
    return GateKit(path, clock, database, Users(database, keys, hasher), attempts, check)
