"""An agent's configuration on the disk, as `vitrine init` leaves it, and the real daemon on it."""

import os
import subprocess
import sys
from pathlib import Path

from agent.config import AgentConfig, AgentVaultConfig, SourceConfig, save
from agent.crypto.keyfiles import save_keys
from agent.model.snapshot import SnapshotInfo
from agent.repository.reader import VaultReader
from agent.store.local import LocalStore
from tests.fakes.vaults import Vault, differences, make_vault, open_reader, snapshots


class AgentOnDisk:
    """A repository, a vault, a source and an agent.toml below a scratch directory."""

    def __init__(self, scratch: Path, *, settle: float = 0.05) -> None:
        """Make them all; the source is empty."""
        self.scratch = scratch
        self.source = scratch / "source"
        self.source.mkdir()
        self.repository = scratch / "repository"
        self.store = LocalStore.create(self.repository)
        self.vault: Vault = make_vault(self.store)
        self.keys = scratch / "radiology.json"
        save_keys(self.keys, self.vault.writer)
        self.config = AgentConfig(
            repository=str(self.repository),
            state_dir=str(scratch / "state"),
            socket=str(scratch / "agent.sock"),
            vault=(
                AgentVaultConfig("radiology", str(self.keys), (SourceConfig(str(self.source)),)),
            ),
            settle_seconds=settle,
            max_wait_seconds=1.0,
        )
        self.file = scratch / "agent.toml"
        save(self.file, self.config, 0o600)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the daemon; what it logs goes to `agent.log`."""
        with (self.scratch / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "agent", "--config", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots, their chain verified."""
        return snapshots(self.store, self.vault.secrets)

    def reader(self) -> VaultReader:
        """Return a reader over what is stored now."""
        return open_reader(self.store, self.vault.secrets, self.scratch / "reader")

    def differences(self) -> list[str]:
        """Return how the newest snapshot differs from the source."""
        reader = self.reader()
        (top,) = reader.entries(self.snapshots()[-1].snapshot.root)
        return differences(reader, top.tree, os.fsencode(self.source))
