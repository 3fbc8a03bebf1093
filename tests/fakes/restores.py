"""Restoring for tests: from a vault to a directory, and snapshots that no agent would make."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.clock import SystemClock
from agent.crypto.naming import object_name
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.model.tree import Entry, Kind, TreePage, encode_page, pack_extents
from agent.repository.indexcache import IndexCache
from agent.repository.reader import VaultReader
from agent.repository.writer import VaultWriter, put_page
from agent.restore.plan import select
from agent.restore.run import restore
from agent.restore.tally import Outcome
from agent.restore.target import closing_target
from agent.store.base import Store
from tests.fakes.vaults import Vault

PROCESSES = 0  # that write files; tests may change it
TAKEN_NS = 1_763_900_000_000_000_000


def restore_to(
    target: Path,
    reader: VaultReader,
    root: bytes,
    paths: Iterable[bytes] = (),
    *,
    stopped: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Outcome:
    """Restore below `target`, made if missing."""
    with closing_target(str(target)) as descriptor:
        return restore(
            select(reader, root, paths),
            reader,
            descriptor,
            clock=SystemClock(),
            stopped=stopped,
            on_progress=on_progress,
            processes=PROCESSES,
        )


def reported(target: Path, outcome: Outcome) -> dict[str, str]:
    """Return what the failure report in the target says: path → reason."""
    if not outcome.report:
        return {}
    lines = (target / outcome.report).read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines)


class HandMade:
    """Snapshots made entry by entry, with the keys of an enrolled host: what a hostile one could.

    Nothing is checked: names may clash, digests may lie.
    """

    def __init__(self, store: Store, vault: Vault, scratch: Path) -> None:
        """Take the vault to write to; `scratch` holds index copies."""
        self._vault = vault
        cache = IndexCache(scratch, store, vault.secrets.vault, vault.writer.index())
        self._writer = VaultWriter(store, vault.writer, cache)
        self._data = self._writer.builder(PackKind.DATA)
        self._trees = self._writer.builder(PackKind.TREE)

    def file(self, name: bytes, data: bytes = b"", **fields: object) -> Entry:
        """Return a file with this content, and what else is given."""
        id_ = self._writer.ids.chunk_id(data)
        if data and self._writer.claim(id_):
            self._data.add(id_, data)
        known = {
            "mode": 0o600,
            "uid": os.getuid(),
            "gid": os.getgid(),
            "size": len(data),
            "content": pack_extents([(id_, len(data))] if data else []),
            "digest": object_name(data),
        }
        return Entry(name=name, **(known | fields))  # type: ignore[arg-type]

    def store_as(self, data: bytes, stored: bytes) -> None:
        """Store `stored` in a pack of its own under the id of `data`, as an owned agent could."""
        id_ = self._writer.ids.chunk_id(data)
        self._writer.claim(id_)  # or `file` would store the data too
        builder = self._writer.builder(PackKind.DATA)
        builder.add(id_, stored)
        self._writer.put(builder)
        self._writer.flush()

    def directory(self, name: bytes, *entries: Entry, **fields: object) -> Entry:
        """Return a directory with these entries in one page, in this order."""
        known = {"mode": 0o700, "uid": os.getuid(), "gid": os.getgid()}
        tree = self.page_of(*entries) if entries else b""
        return Entry(name=name, kind=Kind.DIRECTORY, **(known | {"tree": tree} | fields))  # type: ignore[arg-type]

    def page(self, page: TreePage) -> bytes:
        """Store a tree page as it is; return its id."""
        return put_page(self._writer, self._trees, encode_page(page))

    def page_of(self, *entries: Entry) -> bytes:
        """Store a leaf with these entries; return its id."""
        return self.page(TreePage(entries=entries))

    def commit(self, root: bytes, taken_ns: int = 0) -> SnapshotInfo:
        """Store what was made and commit a snapshot with this root page."""
        for builder in (self._data, self._trees):
            if not builder.is_empty:
                self._writer.put(builder)
        self._data = self._writer.builder(PackKind.DATA)
        self._trees = self._writer.builder(PackKind.TREE)
        tip, keys = self._writer.tip(), self._vault.writer
        at = taken_ns or TAKEN_NS + tip.sequence * 1_000_000_000
        snapshot = Snapshot(keys.vault, keys.host(), tip.sequence + 1, tip.id, root, at, at, 0, 0)
        return self._writer.commit(snapshot)

    def commit_entries(self, *entries: Entry) -> SnapshotInfo:
        """Commit a snapshot whose root page holds these entries."""
        return self.commit(self.page_of(*entries))
