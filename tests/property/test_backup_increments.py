"""Whatever happens to a source, increments come to the same tree as a first look at the result."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from agent.backup import leaf as leaf_module
from agent.repository import trees as trees_module
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.vaults import stored_ids

SEGMENTS = (b"a", b"b", b"c", b"\xff", b"n\n")
paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(b"/".join)
contents = st.integers(0, 2**16).map(lambda n: (b"%d," % n) * (n % 40))


class SourceMachine(RuleBasedStateMachine):
    """Changes a directory at random, tells the agent as events would, and compares."""

    written = Bundle("written")

    @initialize()
    def begin(self) -> None:
        """Start with an empty source."""
        self.scratch = Path(tempfile.mkdtemp(prefix="vitrine-test-"))
        self.made = BackupFixture(MemoryStore(), self.scratch)
        self.dirty: dict[bytes, set[bytes]] = {}
        self.made.run()

    def at(self, path: bytes) -> bytes:
        """Return the path on the disk, and note what an event would have said of it."""
        parent, _, name = path.rpartition(b"/")
        self.dirty.setdefault(parent, set()).add(name)
        return self.made.source + b"/" + path

    def make_way(self, path: bytes) -> None:
        """Make what is above `path`, and remove what is there."""
        steps = path.split(b"/")
        for count in range(1, len(steps)):
            above = b"/".join(steps[:count])
            on_disk = self.at(above)
            if not os.path.isdir(on_disk) or os.path.islink(on_disk):
                self.remove(above)
                os.mkdir(on_disk)
        self.remove(path)

    def remove(self, path: bytes) -> None:
        """Remove whatever is at `path`."""
        on_disk = self.at(path)
        if os.path.isdir(on_disk) and not os.path.islink(on_disk):
            for name in os.listdir(on_disk):  # each has its event: numbers of inodes are used again
                self.remove(path + b"/" + name)
            os.rmdir(on_disk)
        elif os.path.lexists(on_disk):
            os.unlink(on_disk)

    @rule(path=paths, data=contents, target=written)
    def write(self, path: bytes, data: bytes) -> bytes:
        """Make or replace a file."""
        self.make_way(path)
        Path(os.fsdecode(self.at(path))).write_bytes(data)
        return path

    @rule(path=written, data=contents)
    def append(self, path: bytes, data: bytes) -> None:
        """Change a file where it stands."""
        on_disk = self.at(path)
        if os.path.isfile(on_disk) and not os.path.islink(on_disk):
            with open(on_disk, "ab") as file:
                file.write(data)

    @rule(path=paths)
    def make_directory(self, path: bytes) -> None:
        """Make a directory."""
        self.make_way(path)
        os.mkdir(self.at(path))

    @rule(path=paths, target_path=paths)
    def link(self, path: bytes, target_path: bytes) -> None:
        """Make a symbolic link."""
        self.make_way(path)
        os.symlink(target_path, self.at(path))

    @rule(old=written, new=paths)
    def hard_link(self, old: bytes, new: bytes) -> None:
        """Give a file a second name."""
        self.make_way(new)
        on_disk = self.at(old)
        if os.path.isfile(on_disk) and not os.path.islink(on_disk):
            os.link(on_disk, self.at(new))

    @rule(path=paths)
    def delete(self, path: bytes) -> None:
        """Remove a file or a whole directory."""
        self.remove(path)

    @rule(old=paths, new=paths)
    def rename(self, old: bytes, new: bytes) -> None:
        """Move a file or a directory with all in it, over nothing."""
        if old.startswith(new) or new.startswith(old):
            return
        self.make_way(new)
        if os.path.lexists(self.made.source + b"/" + old):
            os.rename(self.at(old), self.at(new))

    @rule()
    def restart(self) -> None:
        """Lose what was in memory."""
        self.made.restart()

    @rule()
    def increment(self) -> None:
        """Run after the events, and compare with what is there, and with a first look at it."""
        made = self.made
        made.run_dirty({path: frozenset(names) for path, names in self.dirty.items()})
        self.dirty.clear()
        assert made.differences() == []
        anew = BackupFixture(MemoryStore(), self.scratch / "anew", vault=None)
        anew.vault = made.vault  # the same keys, so that equal pages have equal names
        anew.sources = made.sources
        anew.backup = anew.another()
        assert anew.run().last.sequence == 1
        assert anew.recorded[-1].snapshot.root == made.last().snapshot.root
        anew.backup.close()
        shutil.rmtree(self.scratch / "anew")

    @rule()
    def full_scan(self) -> None:
        """Scan fully after an increment: nothing more is found."""
        self.increment()
        outcome = self.made.run()
        assert (outcome.taken, outcome.counts.files) == (None, 0)

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        """No pack holds what another holds too."""
        ids = stored_ids(self.made.store, self.made.vault.secrets)
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "made"):
            self.made.backup.close()
            shutil.rmtree(self.scratch)


def test_increments_come_to_the_tree_of_a_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random changes in random order, with pages so small that every directory has several."""
    monkeypatch.setattr(trees_module, "_CUT_MASK", 1)
    for module in (trees_module, leaf_module):
        monkeypatch.setattr(module, "PAGE_MAX_ENTRIES", 3)
    run_state_machine_as_test(
        SourceMachine, settings=settings(max_examples=30, stateful_step_count=25, deadline=None)
    )
