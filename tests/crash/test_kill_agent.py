"""The real daemon, killed at random moments: what was acknowledged stays, nothing is kept twice."""

import os
import subprocess
from itertools import cycle, islice
from pathlib import Path

import pytest

from agent.agentrun import snapshot_once
from agent.clock import SystemClock
from agent.control.agent_messages import TakeSnapshot
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Flaw, Kind
from agent.repository.reader import VaultReader
from agent.restore.recover import Recovery, Wanted
from tests.fakes.agents import AgentOnDisk
from tests.fakes.chance import chance, rounds
from tests.fakes.compare import differences
from tests.fakes.moving_source import MovingSource, is_whole
from tests.fakes.vaults import PASSPHRASE, content, stored_ids, walk

KILLS_IN_CI = 24
CHECKED_AT_ONCE = 50  # rounds after which all snapshots are read and a copy is recovered
LARGE = 8_000_000
PATIENCE_S = 120.0
# What the daemon has newly stored when it is killed, a moment later: counted, for how long that
# takes is the machine's affair.  The moments are short beside a start, and long beside a put.
STAGES = (
    ("", 0),
    ("packs/", 1),
    ("packs/", 2),
    ("index/", 1),
    ("snapshots/", 1),
    ("snapshots/", 2),
)
A_MOMENT_S = 0.4


def _check(reader: VaultReader, info: SnapshotInfo) -> None:
    """Fail unless every file of a snapshot is there, and whole or marked."""
    for path, entry in walk(reader, info.snapshot.root):
        if entry.kind is Kind.FILE and entry.flaw is not Flaw.UNREADABLE:
            data = content(reader, entry)
            assert len(data) == entry.size
            name = path.rsplit(b"/", 1)[-1]
            assert entry.flaw is Flaw.CHANGED_WHILE_READ or is_whole(name, data), path


class Killing:
    """An agent that is killed and started again, over a source that never rests."""

    def __init__(self, scratch: Path) -> None:
        """Start with nothing acknowledged."""
        scratch.mkdir()
        self.agent = AgentOnDisk(scratch)
        self.chance = chance("kills")
        self.moving = MovingSource(self.agent.source, scratch / "outside", self.chance)
        self.acknowledged: list[SnapshotInfo] = []

    def round(self, kind: str, count: int) -> None:
        """Start the daemon, change the source meanwhile, kill it, and count its snapshots."""
        clock, known = SystemClock(), self._stored(kind)
        process = self.agent.start()
        try:
            end = clock.monotonic() + PATIENCE_S
            while count and len(self._stored(kind) - known) < count:
                assert clock.monotonic() < end, f"never stored: {count} {kind}: {self._log()}"
                self._goes_on(process)
            end = clock.monotonic() + self.chance.uniform(0, A_MOMENT_S)
            while clock.monotonic() < end:
                self._goes_on(process)
        finally:
            process.kill()
            process.wait()
        taken = self.agent.snapshots()
        assert taken[: len(self.acknowledged)] == self.acknowledged
        self.acknowledged = taken

    def _goes_on(self, process: "subprocess.Popen[bytes]") -> None:
        """Change the source, a step at a time, beside a daemon that runs."""
        assert process.poll() is None, self._log()
        self.moving.step()
        if self.chance.random() < 0.01:  # one that takes long to read
            path = self.agent.source / "large"
            path.write_bytes(self.chance.randbytes(self.chance.randrange(LARGE)))

    def _stored(self, kind: str) -> set[str]:
        return {listed.name for listed in self.agent.store.list(kind)}

    def _log(self) -> str:
        return (self.agent.scratch / "agent.log").read_text()

    def check(self, target: Path) -> None:
        """Fail unless all snapshots are whole, and a recovered copy is as the source is now."""
        agent = self.agent
        snapshot_once(agent.config, TakeSnapshot(), lambda _: None)
        assert agent.differences() == []
        reader, taken = agent.reader(), agent.snapshots()
        assert taken[: len(self.acknowledged)] == self.acknowledged
        for info in taken:
            _check(reader, info)
        ids = stored_ids(agent.store, agent.vault.secrets)
        assert len(ids) == len(set(ids))
        recovery = Recovery(agent.store, SystemClock(), lambda *_: None)
        recovery.recover(Wanted("radiology"), PASSPHRASE, str(target)).outcome.check()
        assert differences(agent.source, target / os.path.basename(agent.source)) == []


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_wrong_or_stored_twice(tmp_path: Path) -> None:
    """After each kill all snapshots are there; in the end a recovered copy equals the source."""
    left = rounds(KILLS_IN_CI)
    acknowledged = number = 0
    while left > 0:
        killing = Killing(tmp_path / f"part{number}")
        for stage in islice(cycle(STAGES), min(left, CHECKED_AT_ONCE)):
            killing.round(*stage)
        killing.check(tmp_path / f"recovered{number}")
        killing.agent.store.close()
        acknowledged += len(killing.acknowledged)
        left, number = left - CHECKED_AT_ONCE, number + 1
    assert acknowledged > 1
