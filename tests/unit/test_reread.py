"""What nothing else heals the live source does: packs put aside, files read and stored again."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from agent.backup.request import Outcome, Request
from agent.maintenance.repair import Repair, RepairReport
from agent.model.location import PackKind
from agent.model.snapshot import Trigger
from agent.repository import layout
from agent.repository.indexcache import IndexCache
from agent.repository.packtable import read_header
from agent.repository.verify import verify
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.contents import everything
from tests.fakes.damage import put_instead

KB = 1024


class Host:
    """A host with a few files and two snapshots, whose packs have no parity."""

    def __init__(self, scratch: Path, expect_log: Callable[[str], None]) -> None:
        """Take the snapshots."""
        self.expect_log = expect_log
        self.scratch = scratch
        self.store = MemoryStore()
        self.made = BackupFixture(self.store, scratch)
        self.secrets = self.made.vault.secrets
        self.write("first", 300 * KB)
        self.write("below/second", 40 * KB)
        self.made.run()
        self.write("third", 200 * KB)
        self.made.run()
        self.expected = everything(self.store, self.secrets, scratch)

    def write(self, name: str, size: int) -> None:
        """Write a file of random bytes."""
        path = Path(os.fsdecode(self.made.source), name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Random(name).randbytes(size))

    def packs(self, *kinds: PackKind) -> list[str]:
        """Return the names of all packs of these kinds, by default of both."""
        found = {layout.pack_id(listed.name) for listed in self.store.list(layout.PACKS)} - {None}
        return sorted(
            layout.pack(id_)
            for id_ in found
            if id_ is not None and read_header(self.store, id_)[0].kind in (kinds or PackKind)
        )

    def repair(self) -> RepairReport:
        """Repair with keys, and put aside what cannot be healed."""
        reader = self.secrets.reader()
        index = self.scratch / "maintenance"
        job = Repair(
            self.store,
            {reader.vault: reader},
            lambda keys: IndexCache(index, self.store, keys.vault, keys.index()),
        )
        return job.run(lambda *_: None, drop=True)

    def reread(self) -> Outcome:
        """Read everything again."""
        self.expect_log("is begun anew")
        request = Request(Trigger.REQUEST, full=True, reread=True)
        return trio.run(self.made.backup.run, request)

    def is_whole(self) -> bool:
        """Tell whether every snapshot says what it did, and verification finds nothing."""
        reader = self.secrets.reader()
        report = verify(
            self.store, keys={reader.vault: reader}, read_data=True, on_progress=lambda *_: None
        )
        return (
            report.is_clean and everything(self.store, self.secrets, self.scratch) == self.expected
        )


@pytest.fixture
def host(tmp_path: Path, expect_log: Callable[[str], None]) -> Host:
    """Return one such host."""
    return Host(tmp_path, expect_log)


@pytest.mark.parametrize("restart", [True, False])
def test_lost_content_is_stored_again_from_the_source(host: Host, *, restart: bool) -> None:
    """For every snapshot that needs it, old ones too."""
    lost = host.packs(PackKind.DATA)
    for number, name in enumerate(lost):
        if number % 2:
            put_instead(host.store, name, b"zeros" * 10)
        else:
            host.store.delete(name)
    assert host.repair().put_aside == tuple(lost)
    if restart:
        host.made.restart()
    outcome = host.reread()
    assert outcome.taken is None, "no source has changed, so there is nothing to tell"
    assert outcome.added_bytes > 500 * KB
    assert host.is_whole()


def test_the_newest_trees_are_stored_again(host: Host) -> None:
    """What directories held before only the repository knew."""
    for name in host.packs(PackKind.TREE):
        host.store.delete(name)
    host.repair()
    assert host.reread().added_bytes > 0
    assert not host.made.differences()


def test_what_is_still_stored_is_read_but_not_stored_again(host: Host) -> None:
    """A reread of a sound repository costs reading."""
    before = host.packs()
    outcome = host.reread()
    assert outcome.counts.files == 3
    assert outcome.added_bytes == 0
    assert host.packs() == before
    assert len(host.made.recorded) == len(host.expected), "no snapshot is on record twice"


def test_what_the_source_no_longer_has_stays_lost_and_the_rest_comes_back(host: Host) -> None:
    """A file that changed since is stored as it is now; the next snapshot is whole."""
    for name in host.packs():
        host.store.delete(name)
    host.repair()
    Path(os.fsdecode(host.made.source), "first").write_bytes(b"another" * 20)
    assert host.reread().taken is not None
    assert not host.made.differences()


def test_without_a_reread_the_agent_does_not_notice(host: Host) -> None:
    """Its journal says that everything is stored: that is why there is one."""
    for name in host.packs():
        host.store.delete(name)
    host.repair()
    assert host.made.run().added_bytes == 0
    assert host.packs() == []
