"""A vault with a known history, from which a run can be broken as often as there are ways."""

import os
import shutil
from itertools import count
from pathlib import Path

from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.contents import Contents, everything, objects, on_disk, store_of
from tests.fakes.faulty_store import FaultyStore


class History:
    """So many snapshots in a store, the agent's state after them, and a source changed since."""

    def __init__(self, scratch: Path, taken: int) -> None:
        """Take `taken` snapshots, each of a source that was changed, and change it once more."""
        self.scratch = scratch
        self._numbers = count()
        store = MemoryStore()
        made = BackupFixture(store, scratch)
        self.vault = made.vault
        self.source = Path(os.fsdecode(made.source))
        for number in range(taken):
            self.change(number)
            made.run()
        made.backup.close()
        self.before = objects(store)
        self.known = everything(store, self.vault.secrets, scratch)
        self.change(taken)
        self.now = on_disk(made.source)

    def change(self, number: int) -> None:
        """Add a study, write over a file and append to another, remove and move something."""
        study = self.source / f"study{number}"
        study.mkdir()
        for image in range(3):
            (study / f"image{image}").write_bytes(b"%d/%d " % (number, image) * 200)
        (self.source / "report").write_bytes(b"report %d" % number)
        with (self.source / "log").open("ab") as log:
            log.write(b"line %d\n" % number)
        if number:
            (self.source / f"study{number - 1}" / "image0").unlink()
            (self.source / f"study{number - 1}" / "image1").rename(study / "moved")

    def begin(self, store: Store | None = None, state: Path | None = None) -> BackupFixture:
        """Return the backup as it stood after the history, over `store` and a copy of `state`."""
        over = store_of(self.before) if store is None else store
        made = BackupFixture(over, self.scratch, vault=self.vault)
        name = f"state{next(self._numbers)}"
        found = state or self.scratch / "state"
        shutil.copytree(found, self.scratch / name)
        self.states = name
        made.backup = made.another(name)
        return made

    def begin_faulty(self, store: FaultyStore) -> tuple[BackupFixture, str]:
        """Return the backup over a store that fails, and the name of its state directory."""
        return self.begin(store), self.states

    def read(self, store: Store) -> dict[tuple[bytes, int], Contents]:
        """Return what every snapshot in `store` says."""
        return everything(store, self.vault.secrets, self.scratch)
