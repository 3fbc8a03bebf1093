"""A vault on whose way to less prune has something to do each day: noting, rewriting, deleting."""

import os
from pathlib import Path
from random import Random

from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.contents import everything, objects
from tests.fakes.pruning import REWRITE, prune
from tests.fakes.removing import remove
from tests.fakes.vaults import Vault, make_writer, snapshots

DAYS = 7  # of pruning until all steps have been taken, the sweep among them
_FILE_BYTES = 150 * 1024


class Waste:
    """A vault with snapshots removed and packs that are partly needed, day by day."""

    def __init__(self, scratch: Path) -> None:
        """Take snapshots, change everything, remove all but the newest."""
        store = MemoryStore()
        self.scratch = scratch
        made = BackupFixture(store, scratch)
        self.vault: Vault = made.vault
        for number in range(4):
            for name in ("a", "b", "c"):
                write(made, f"{name}{number}")
            made.run()
            os.unlink(made.source + b"/a%d" % number)
            os.unlink(made.source + b"/b%d" % number)
        made.run()
        made.backup.close()
        remove(store, self.vault.secrets, snapshots(store, self.vault.secrets)[:-1])
        self.kept = everything(store, self.vault.secrets, scratch)
        self.before = objects(store)

    def day(self, store: Store, name: str) -> None:
        """Prune, by a process that begins anew."""
        prune(store, self.vault.secrets, self.scratch / name, limits=REWRITE)

    def second_host(self, store: Store, name: str, through: Store | None = None) -> BackupFixture:
        """Return another host of the vault, whose files are partly on their way out.

        It is enrolled in `store` and sees it `through` another, if one is given.
        """
        keys = make_writer(store, self.vault.secrets, name)
        vault = Vault(self.vault.secrets, keys)
        other = BackupFixture(through or store, self.scratch / name, vault=vault)
        for file in ("a1", "b2", "c3", "new"):
            write(other, file)
        return other

    def is_well(self, store: Store) -> None:
        """Check that every live snapshot reads as it did, and that verify finds nothing."""
        found = everything(store, self.vault.secrets, self.scratch)
        assert found.items() >= self.kept.items()
        keys = {self.vault.secrets.vault: self.vault.secrets.reader()}
        report = verify(store, keys=keys, read_data=True, on_progress=lambda *_: None)
        assert report.is_clean, report.findings


def write(fixture: BackupFixture, name: str) -> None:
    """Write a file whose content follows from its name."""
    data = Random(name).randbytes(_FILE_BYTES)
    Path(os.fsdecode(fixture.source), name).write_bytes(data)
