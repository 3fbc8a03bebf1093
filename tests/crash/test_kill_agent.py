"""The real daemon, killed at random moments: what was acknowledged stays, nothing is kept twice."""

import os
import random
import shutil
from pathlib import Path

import pytest
import trio

from agent.agentd import snapshot_once
from agent.clock import SystemClock
from agent.control.agent_messages import TakeSnapshot
from agent.model.tree import Kind
from tests.fakes.agents import AgentOnDisk
from tests.fakes.vaults import content, stored_ids, walk

ROUNDS = int(os.environ.get("VITRINE_KILL_ROUNDS", "15"))


def change(source: Path, chance: random.Random) -> None:
    """Add a study, rewrite a file, delete or move an old study."""
    study = source / f"s{chance.randrange(40)}"
    shutil.rmtree(study, ignore_errors=True)
    study.mkdir()
    for number in range(chance.randrange(60)):
        (study / f"i{number}").write_bytes(chance.randbytes(chance.randrange(20_000)))
    (source / "large").write_bytes(chance.randbytes(chance.randrange(8_000_000)))
    if chance.random() < 0.3:
        study.rename(source / f"moved{chance.randrange(10)}-{chance.randrange(10**9)}")


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_wrong_or_stored_twice(tmp_path: Path) -> None:
    """After each kill every snapshot is whole; in the end the newest is the source."""
    agent = AgentOnDisk(tmp_path)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    clock = SystemClock()
    acknowledged = 0
    for _ in range(ROUNDS):
        process = agent.start()
        until = clock.monotonic() + chance.uniform(0.4, 2.0)
        while clock.monotonic() < until and process.poll() is None:
            change(agent.source, chance)
        assert process.poll() is None, (tmp_path / "agent.log").read_text()
        process.kill()
        process.wait()
        taken = agent.snapshots()
        assert len(taken) >= acknowledged
        acknowledged = len(taken)
    assert acknowledged > 1
    trio.run(snapshot_once, agent.config, TakeSnapshot(), lambda _: None)
    assert agent.differences() == []
    reader = agent.reader()
    for info in agent.snapshots():
        for _, entry in walk(reader, info.snapshot.root):
            if entry.kind is Kind.FILE:
                assert len(content(reader, entry)) == entry.size
    ids = stored_ids(agent.store, agent.vault.secrets)
    assert len(ids) == len(set(ids))
    agent.store.close()
