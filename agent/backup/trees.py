"""Making trees anew, bottom up, of directories that changed: only dirty pages are stored again."""

from collections.abc import Callable, Iterator, Mapping

from agent.backup.journal import NO_SOURCE, Directory, Journal
from agent.backup.leaf import Totals
from agent.backup.pages import Pages
from agent.model.ids import TreeId
from agent.model.tree import PageRef
from agent.repository.trees import root_of

GROUP_DIRECTORIES = 1024  # made between two chances to be cancelled


class Trees:
    """Gives every dirty directory of a journal its root page."""

    def __init__(
        self,
        journal: Journal,
        pages: Pages,
        put: Callable[[bytes], TreeId],
        labels: Mapping[int, bytes],
    ) -> None:
        """Take where pages are stored, and the name of each source in the root page."""
        self._journal = journal
        self._pages = pages
        self._put = put
        self._labels = labels

    def rebuild(self) -> Iterator[None]:
        """Do it, deepest first, yielding now and then; afterwards the journal's root has one."""
        while True:
            found = self._journal.row("SELECT max(depth) FROM dirs WHERE root IS NULL")
            if found is None or found[0] is None:
                return
            self._rebuild_group(int(found[0]))
            yield

    def _rebuild_group(self, depth: int) -> None:
        """Make a group of the directories at `depth`, and tell their parents."""
        rows = self._journal.rows(
            "SELECT id, source, path, parent, depth, root, files, bytes FROM dirs"
            " WHERE root IS NULL AND depth = ? ORDER BY parent, path LIMIT ?",
            depth,
            GROUP_DIRECTORIES,
        )
        children: dict[int, dict[bytes, Totals]] = {}
        for directory in map(Directory._make, rows):
            totals = self._rebuild(directory)
            if directory.depth:
                children.setdefault(directory.parent, {})[self._name(directory)] = totals
        for parent, totals_of in children.items():
            self._pages.set_children(parent, totals_of)

    def _rebuild(self, directory: Directory) -> Totals:
        refs: list[PageRef] = []
        files = size = 0
        for row, first, id_, files_here, bytes_here in self._journal.rows(
            "SELECT row, first, id, files, bytes FROM pages WHERE dir = ? ORDER BY first",
            directory.id,
        ):
            refs.append(PageRef(first, id_ or self._store(row)))
            files += files_here
            size += bytes_here
        totals = Totals(root_of(refs, self._put), files, size)
        self._journal.change(
            "UPDATE dirs SET root = ?, files = ?, bytes = ? WHERE id = ?", *totals, directory.id
        )
        return totals

    def _store(self, row: int) -> TreeId:
        found = self._journal.row("SELECT body, crc FROM pages WHERE row = ?", row)
        if found is None:
            raise self._journal.failed_verification()
        id_ = self._put(self._journal.verified(*found))
        self._journal.change("UPDATE pages SET id = ? WHERE row = ?", id_, row)
        return id_

    def _name(self, directory: Directory) -> bytes:
        if directory.path:
            return directory.path.rpartition(b"/")[2]
        return self._labels[directory.source] if directory.source != NO_SOURCE else b""
