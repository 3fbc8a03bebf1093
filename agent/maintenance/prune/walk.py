"""From the snapshots to every chunk and page that they need, each page read once.

Snapshots share most of their pages, so the second costs what differs from the first.  Anything
that cannot be read ends the walk: who does not know what is needed deletes nothing.
"""

from collections.abc import Callable, Iterable

from agent.errors import ObjectDamaged
from agent.maintenance.prune.marks import Marks
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Entry, Kind, unpack_extents
from agent.repository.reader import MAX_DEPTH, VaultReader

Progress = Callable[[int, int], None]
"""Hears of (snapshots done, snapshots in all)."""


def mark_all(
    reader: VaultReader, snapshots: Iterable[SnapshotInfo], marks: Marks, on_progress: Progress
) -> None:
    """Mark what the snapshots need; raise ObjectMissing or ObjectDamaged where one cannot be."""
    walk = _Walk(reader, marks)
    every = list(snapshots)
    for done, info in enumerate(every):
        on_progress(done, len(every))
        walk.tree(info.snapshot.root)
    on_progress(len(every), len(every))


class _Walk:
    """Reads pages that were not met before."""

    def __init__(self, reader: VaultReader, marks: Marks) -> None:
        self._reader = reader
        self._marks = marks

    def tree(self, root: bytes) -> None:
        """Mark a directory's pages and everything below them; an explicit stack, for any depth."""
        waiting = [root] if root else []
        while waiting:
            id_ = waiting.pop()
            if not self._marks.mark(id_):
                continue
            page = self._reader.page(id_)
            waiting += [ref.id for ref in page.pages]
            for entry in page.entries:
                if entry.kind is Kind.DIRECTORY:
                    waiting += [entry.tree] if entry.tree else []
                elif entry.content:
                    self._content(entry)

    def _content(self, entry: Entry) -> None:
        if entry.depth > MAX_DEPTH:
            raise ObjectDamaged("a file's content lies deeper than any file needs")
        self._extents(entry.content, entry.depth)

    def _extents(self, packed: bytes, depth: int) -> None:
        for extent in unpack_extents(packed):
            if extent.is_hole:
                continue
            is_new = self._marks.mark(extent.id)
            if depth and is_new:
                self._extents(self._reader.content_page(extent.id), depth - 1)
