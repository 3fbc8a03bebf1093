"""A whole vault against a dictionary: whatever two hosts do to it, and whatever breaks meanwhile.

Hypothesis makes up the histories and shrinks those that fail; `--hypothesis-seed=N` repeats them.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from agent.errors import StoreError
from agent.repository import writer
from agent.repository.verify import verify
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.chance import rounds
from tests.fakes.contents import Contents, everything, on_disk
from tests.fakes.faulty_store import Fault, FaultyStore
from tests.fakes.vaults import Vault, make_vault, make_writer, stored_ids

HISTORIES_IN_CI = 25
STEPS = 40

HOSTS = st.integers(0, 1)
PATHS = st.builds(lambda *parts: "/".join(parts), st.sampled_from("ab"), st.sampled_from("xyz"))
DATA = st.builds(lambda n, times: b"%d " % n * times, st.integers(0, 9), st.integers(0, 30))
FAULTS = st.sampled_from([Fault.BEFORE, Fault.AFTER, Fault.FULL])


class Host:
    """One agent, its source, and what the model knows of its snapshots."""

    def __init__(self, inner: MemoryStore, vault: Vault, scratch: Path) -> None:
        """Start with an empty source and no snapshot."""
        self.store = FaultyStore(inner)
        self.made = BackupFixture(self.store, scratch, vault=vault)
        self.id = vault.writer.host()
        self.source = Path(os.fsdecode(self.made.source))
        self.dirty: dict[bytes, set[bytes]] = {}
        self.taken: dict[int, Contents] = {}
        self.attempts: list[Contents] = []  # since the last acknowledgement: may be there
        self.unheard: dict[int, list[Contents]] = {}  # sequence → which attempts it may be of

    def run(self, *, full: bool) -> None:
        """Take a snapshot; the model then has it too."""
        now = on_disk(self.made.source)
        try:
            if full:
                outcome = self.made.run()
            else:
                outcome = self.made.run_dirty({p: frozenset(n) for p, n in self.dirty.items()})
        except StoreError:
            self.attempts.append(now)
            raise
        self.dirty.clear()
        for sequence in range(max(self.taken, default=0) + 1, outcome.last.sequence):
            self.unheard[sequence] = self.attempts
        self.taken[outcome.last.sequence] = now
        self.attempts = []

    def touched(self, path: str) -> Path:
        """Note what an event would have said of `path`."""
        parent, _, name = path.rpartition("/")
        self.dirty.setdefault(parent.encode(), set()).add(name.encode())
        self.dirty.setdefault(b"", set()).add(parent.encode())
        return self.source / path


class VaultMachine(RuleBasedStateMachine):
    """Two hosts that write to one vault; faults, restarts, lost state; every old snapshot read."""

    @initialize()
    def begin(self) -> None:
        """Make the vault and enrol both hosts."""
        memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
        self.scratch = Path(
            tempfile.mkdtemp(prefix="vitrine-test-", dir=memory if memory.is_dir() else None)
        )
        self.inner = MemoryStore()
        self.vault = make_vault(self.inner)
        second = self.vault._replace(writer=make_writer(self.inner, self.vault.secrets, "pacs2"))
        self.hosts = [
            Host(self.inner, self.vault, self.scratch / "one"),
            Host(self.inner, second, self.scratch / "two"),
        ]
        self.crashed = False

    @rule(host=HOSTS, path=PATHS, data=DATA)
    def write(self, host: int, path: str, data: bytes) -> None:
        """Make a file, or write over it."""
        found = self.hosts[host].touched(path)
        found.parent.mkdir(exist_ok=True)
        found.write_bytes(data)

    @rule(host=HOSTS, path=PATHS)
    def remove(self, host: int, path: str) -> None:
        """Remove a file."""
        self.hosts[host].touched(path).unlink(missing_ok=True)

    @rule(host=HOSTS, old=PATHS, new=PATHS)
    def move(self, host: int, old: str, new: str) -> None:
        """Rename a file, over another if there is one."""
        source, target = self.hosts[host].touched(old), self.hosts[host].touched(new)
        target.parent.mkdir(exist_ok=True)
        if source.exists():
            source.rename(target)

    @rule(host=HOSTS, full=st.booleans())
    def snapshot(self, host: int, full: bool) -> None:
        """Take a snapshot of everything, or of what events named."""
        self.hosts[host].run(full=full)

    @rule(host=HOSTS, full=st.booleans(), at=st.integers(1, 12), fault=FAULTS, down=st.booleans())
    def fail(self, host: int, full: bool, at: int, fault: Fault, down: bool) -> None:
        """Take a snapshot while the store fails once, is full, or goes away."""
        chosen = self.hosts[host]
        store = chosen.store
        store.operations, store.fail_at, store.fault, store.stays_down = 0, at, fault, down
        try:
            chosen.run(full=full)
        except StoreError:
            self.crashed = True
            if down:
                chosen.made.restart()
        finally:
            store.heal()

    @rule(host=HOSTS)
    def restart(self, host: int) -> None:
        """Go on with what is on the disk."""
        self.hosts[host].made.restart()

    @rule(host=HOSTS)
    def forget(self, host: int) -> None:
        """Lose the journal and the index cache: a new machine with the old keys."""
        made = self.hosts[host].made
        made.backup.close()
        shutil.rmtree(made.scratch / "state")
        made.backup = made.another()

    @rule()
    def read_everything(self) -> None:
        """Read each snapshot of both hosts back."""
        found = everything(self.inner, self.vault.secrets, self.scratch)
        for host in self.hosts:
            theirs = {sequence: told for (id_, sequence), told in found.items() if id_ == host.id}
            assert host.taken.items() <= theirs.items()
            for sequence in theirs.keys() - host.taken.keys():  # stored, but the answer was lost
                assert theirs[sequence] in host.unheard.get(sequence, host.attempts)
                host.taken[sequence] = theirs[sequence]

    def teardown(self) -> None:
        """Read all, verify all, and leave nothing behind, whatever is found."""
        if not hasattr(self, "hosts"):
            return
        try:
            self.conclude()
        finally:
            for host in self.hosts:
                host.made.backup.close()
            shutil.rmtree(self.scratch)

    def conclude(self) -> None:
        """Let both hosts go on once more; every snapshot reads back, every object verifies."""
        for host in self.hosts:
            host.run(full=True)
        self.read_everything()
        keys = {self.vault.secrets.vault: self.vault.secrets.reader()}
        report = verify(self.inner, keys=keys, read_data=True, on_progress=lambda *_: None)
        assert report.findings == ()
        ids = stored_ids(self.inner, self.vault.secrets)
        # What one host's broken run has left is unknown to the other until it is indexed.
        assert self.crashed or len(ids) == len(set(ids))


@pytest.mark.slow
def test_a_vault_is_what_the_model_says(
    monkeypatch: pytest.MonkeyPatch, many_checkpoints: None
) -> None:
    """Random histories of two hosts; indexes are merged as soon as there are two of a size."""
    monkeypatch.setattr(writer, "MERGE_FAN_IN", 2)
    run_state_machine_as_test(
        VaultMachine,
        settings=settings(
            max_examples=rounds(HISTORIES_IN_CI), stateful_step_count=STEPS, deadline=None
        ),
    )
