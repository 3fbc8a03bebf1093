"""A vault's backup, ready to run against a directory: real files, any store, one call a run."""

import os
from collections.abc import Mapping
from pathlib import Path

import trio

from agent.backup.patterns import Patterns
from agent.backup.request import Outcome, Request
from agent.backup.run import VaultBackup
from agent.backup.signs import DEFAULT_LIMITS, Limits
from agent.backup.sources import Source
from agent.backup.steps import Steps
from agent.backup.waiting import DirtyNames
from agent.clock import SystemClock
from agent.model.snapshot import SnapshotInfo, Trigger
from agent.model.tree import Entry
from agent.repository.reader import VaultReader
from agent.store.base import Store
from tests.fakes.vaults import Vault, differences, make_vault, open_reader, snapshots


class BackupFixture:
    """One vault in one store, with sources below a scratch directory."""

    def __init__(
        self,
        store: Store,
        scratch: Path,
        *,
        names: tuple[str, ...] = ("source",),
        patterns: Patterns | None = None,
        vault: Vault | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Make the vault unless it is given, and the sources' directories."""
        self.store = store
        self.scratch = scratch
        self.vault = vault or make_vault(store)
        self.limits = limits
        self.recorded: list[SnapshotInfo] = []
        self.sources = [
            Source(os.fsencode(scratch / name), name.encode(), patterns or Patterns())
            for name in names
        ]
        for source in self.sources:
            os.makedirs(source.path, exist_ok=True)
        self.backup = self.another()

    @property
    def source(self) -> bytes:
        """The first source's path."""
        return self.sources[0].path

    def another(self, state: str = "state") -> VaultBackup:
        """Return a backup as a new process would make it."""
        return VaultBackup(self.steps(state), SystemClock())

    def steps(self, state: str = "state") -> Steps:
        """Return the steps of its runs; close them, or the backup that they are given to."""
        return Steps(
            self.store,
            self.vault.writer,
            self.sources,
            self.scratch / state,
            SystemClock(),
            self.recorded.append,
            self.limits,
        )

    def restart(self) -> None:
        """Go on as a new process: nothing but the disk remembers."""
        self.backup.close()
        self.backup = self.another()

    def run(self, *, full: bool = True, force: bool = False) -> Outcome:
        """Take a snapshot, and wait for it."""
        return trio.run(self.backup.run, Request(Trigger.REQUEST, full, {}, force))

    def run_dirty(self, names: DirtyNames) -> Outcome:
        """Take a snapshot of what events named, below the first source."""
        dirty: Mapping[bytes, DirtyNames | None] = {self.source: names}
        return trio.run(self.backup.run, Request(Trigger.CHANGE, full=False, dirty=dirty))

    def reader(self) -> VaultReader:
        """Return a reader over what is stored now."""
        return open_reader(self.store, self.vault.secrets, self.scratch / "reader")

    def last(self) -> SnapshotInfo:
        """Return the newest snapshot."""
        return snapshots(self.store, self.vault.secrets)[-1]

    def tops(self) -> dict[bytes, Entry]:
        """Return the sources' entries in the newest snapshot, by label."""
        return {entry.name: entry for entry in self.reader().entries(self.last().snapshot.root)}

    def differences(self) -> list[str]:
        """Return how the newest snapshot differs from the first source as it is now."""
        label = self.sources[0].label
        return differences(self.reader(), self.tops()[label].tree, self.source)
