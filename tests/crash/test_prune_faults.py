"""Prune broken at each of its store operations, and agents that write between any two of them."""

import logging
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from agent.errors import StoreError
from agent.model.snapshot import SnapshotInfo
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.chance import rounds
from tests.fakes.contents import everything, objects, store_of
from tests.fakes.faulty_store import Fault, FaultyStore
from tests.fakes.paused_store import PausedStore
from tests.fakes.pruning import REWRITE, prune, prune_to_the_end
from tests.fakes.removing import remove
from tests.fakes.vaults import Vault, make_writer, snapshots
from tests.fakes.waste import DAYS, Waste

KB = 1024
WAYS = {"before": Fault.BEFORE, "after": Fault.AFTER}


@pytest.fixture
def waste(ram: Path) -> Waste:
    """Return one such vault."""
    return Waste(ram)


_numbers = count()


def _broken(waste: Waste, before: dict[str, bytes], fault: Fault) -> Iterator[MemoryStore]:
    """Yield the store after the n-th operation of a day's prune failed for good, for every n."""
    failed = 0
    while True:
        inner = store_of(before)
        store = FaultyStore(inner, fail_at=failed + 1, fault=fault, stays_down=True)
        try:
            waste.day(store, f"broken{next(_numbers)}")
        except StoreError:
            yield inner
            failed += 1
            continue
        assert failed > 5, "too few operations to prove anything"
        return


@pytest.mark.slow
@pytest.mark.parametrize("fault", WAYS.values(), ids=WAYS)
def test_whatever_operation_of_prune_fails_nothing_needed_is_lost_and_the_next_run_ends_it(
    waste: Waste, fault: Fault
) -> None:
    """On every day of the way from noted to gone: rewriting, condemning, sweeping."""
    before = waste.before
    for day in range(DAYS):
        for store in _broken(waste, before, fault):
            waste.is_well(store)
            waste.day(store, f"again{next(_numbers)}")
            waste.is_well(store)
        healthy = store_of(before)
        waste.day(healthy, f"day{day}")
        before = objects(healthy)
    assert len(before) < len(waste.before)


@pytest.mark.slow
def test_a_snapshot_between_any_two_operations_of_prune_is_whole(waste: Waste) -> None:
    """A second host stores what is on its way out, while it goes."""
    before = waste.before
    for day in range(DAYS):
        healthy = store_of(before)
        waste.day(healthy, f"with{day}")
        after = objects(healthy)
        operations = _operations(waste, before)
        for at in range(1, operations + 1, 3):
            _interleaved(waste, before, at)
        before = after


def _operations(waste: Waste, before: dict[str, bytes]) -> int:
    store = FaultyStore(store_of(before))
    waste.day(store, f"count{next(_numbers)}")
    return store.operations


def _interleaved(waste: Waste, before: dict[str, bytes], at: int) -> None:
    inner = store_of(before)
    scratch = waste.scratch / f"second{next(_numbers)}"
    other = waste.second_host(inner, scratch.name)
    store = FaultyStore(inner, fail_at=at, fault=Fault.DELAYED, meanwhile=lambda: _taken(other))
    waste.day(store, f"delayed{next(_numbers)}")
    other.backup.close()
    prune_to_the_end(inner, waste.vault.secrets, scratch / "m", limits=REWRITE)
    assert not other.differences()


def _taken(other: BackupFixture) -> None:
    """Take the second host's snapshot."""
    other.run()


class Pruned(RuleBasedStateMachine):
    """Two hosts, retention and prune against a dictionary, in any order."""

    place: Path  # set by the test

    @initialize()
    def begin(self) -> None:
        """Start with an empty vault and two hosts."""
        self.scratch = self.place / str(next(_numbers))
        self.store = MemoryStore()
        first = BackupFixture(self.store, self.scratch / "one")
        self.secrets = first.vault.secrets
        keys = make_writer(self.store, self.secrets, "two")
        second = BackupFixture(self.store, self.scratch / "two", vault=Vault(self.secrets, keys))
        self.hosts = [first, second]
        self.expected: dict[tuple[bytes, int], dict[bytes, bytes]] = {}

    @rule(host=st.integers(0, 1), name=st.integers(0, 3), content=st.integers(0, 4))
    def write(self, host: int, name: int, content: int) -> None:
        """Write one of a few contents to one of a few files: they come and go, on both hosts."""
        path = Path(os.fsdecode(self.hosts[host].source), str(name))
        path.write_bytes(Random(content).randbytes(40 * KB))

    @rule(host=st.integers(0, 1), name=st.integers(0, 3))
    def delete(self, host: int, name: int) -> None:
        """Delete a file."""
        Path(os.fsdecode(self.hosts[host].source), str(name)).unlink(missing_ok=True)

    @rule(host=st.integers(0, 1), restart=st.booleans())
    def snapshot(self, host: int, *, restart: bool) -> None:
        """Take a snapshot, perhaps as a new process."""
        fixture = self.hosts[host]
        if restart:
            fixture.restart()
        self._took(fixture)

    @rule(host=st.integers(0, 1), at=st.integers(1, 60), days=st.integers(0, 12))
    def broken_off(self, host: int, at: int, days: int) -> None:
        """Take a snapshot, in the midst of which days pass, and then the store is gone for good."""
        fixture = self.hosts[host]
        fixture.backup.close()
        slow = PausedStore(self.store, days, lambda: self.prune(1))
        slow.pause_at = at
        fixture.store = FaultyStore(slow, fail_at=at + 3, stays_down=True)
        fixture.backup = fixture.another()
        try:
            self._took(fixture)
        except StoreError:
            self._note_what_came_through(fixture)
        fixture.backup.close()
        fixture.store = self.store
        fixture.backup = fixture.another()

    def _took(self, fixture: BackupFixture) -> None:
        outcome = fixture.run(force=True)
        assert outcome.taken is not None
        self._note(outcome.taken)

    def _note(self, taken: SnapshotInfo) -> None:
        key = taken.snapshot.host, taken.snapshot.sequence
        self.expected[key] = everything(self.store, self.secrets, self.scratch)[key]

    def _note_what_came_through(self, fixture: BackupFixture) -> None:
        """Note a snapshot that is there though its host never heard of it."""
        for info in snapshots(self.store, self.secrets):
            key = info.snapshot.host, info.snapshot.sequence
            if key not in self.expected:
                assert key[0] == fixture.vault.writer.host()
                self._note(info)

    @rule(keep=st.integers(1, 3))
    def thin(self, keep: int) -> None:
        """Remove all but each host's newest few."""
        live = snapshots(self.store, self.secrets)
        gone = []
        for host in {info.snapshot.host for info in live}:
            chain = [info for info in live if info.snapshot.host == host]
            gone += chain[:-keep]
        if gone:
            remove(self.store, self.secrets, gone)
        for info in gone:
            self.expected.pop((info.snapshot.host, info.snapshot.sequence), None)

    @rule(days=st.integers(1, 8))
    def prune(self, days: int) -> None:
        """Prune once a day."""
        for _ in range(days):
            prune(self.store, self.secrets, self.scratch / "maintenance", limits=REWRITE)

    @invariant()
    def all_is_there(self) -> None:
        """Check that every live snapshot reads as it did when it was taken."""
        if hasattr(self, "expected"):
            assert everything(self.store, self.secrets, self.scratch) == self.expected

    def teardown(self) -> None:
        """Let go of the journals."""
        for host in getattr(self, "hosts", []):
            host.backup.close()


@pytest.mark.slow
@pytest.mark.usefixtures("many_checkpoints")
def test_hosts_retention_and_prune_in_any_order(
    ram: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever order things come in, what a live snapshot needs is there."""
    # that journals are read anew is said in some histories, and not in others
    caplog.set_level(logging.ERROR, logger="agent.backup.journalfile")
    monkeypatch.setattr(Pruned, "place", ram, raising=False)
    run_state_machine_as_test(
        Pruned,
        settings=settings(max_examples=rounds(40), stateful_step_count=40, deadline=None),
    )
