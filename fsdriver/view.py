"""What a set of snapshots looks like as files: names, directories, nothing of FUSE, no errno.

    latest/<source>/…                    per host the newest snapshot, their sources together
    by-time/<date>/<time>/<source>/…     local time of this server; `-2` … for more in a second
    snapshots/<short id>/<source>/…

Directories of a snapshot are resolved page by page: one of a million entries is never whole in
memory.  Everything that may block takes the `Pages` to read from, so that the caller chooses
between waiting and being told that it would have to.
"""

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.clock import utc
from agent.crypto.naming import IdKey, derive, object_name
from agent.errors import NotFound, ObjectDamaged
from agent.model.ids import HostId, TreeId
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Entry, Flaw, Kind, TreePage
from fsdriver.nodes import (
    Node,
    Pages,
    by_name,
    file_identity,
    fixed,
    free_name,
    latest_ns,
    made,
    renamed,
    short_names,
    snapshot_node,
)

LATEST, BY_TIME, SNAPSHOTS = b"latest", b"by-time", b"snapshots"
MAX_LEVELS = 16  # 256 entries a page need 4 levels for 10⁹; a hostile tree needs a limit
_LEAF_BITS = 12  # a position is leaf number and entry in the leaf; PAGE_MAX_ENTRIES is 2¹⁰
_TRAIL_CONTEXT = "vitrine 2026-11 paths in a mount"
_NO_PARENT = bytes(32)
_name = operator.attrgetter("name")
_first = operator.attrgetter("first")


@dataclass(slots=True)
class LatestSources:
    """The sources of several hosts' newest snapshots, read when first looked at."""

    view: "View"
    newest: tuple[SnapshotInfo, ...]
    _found: tuple[Node, ...] | None = field(default=None)

    def nodes(self, pages: Pages) -> Sequence[Node]:
        """Return the sources, sorted by label; a label that clashes gets `@` and its host."""
        if self._found is None:
            self._found = tuple(sorted(self._sources(pages), key=lambda node: node.entry.name))
        return self._found

    def _sources(self, pages: Pages) -> list[Node]:
        found = [
            (node, info.snapshot.host)
            for info in self.newest
            for node in self.view.snapshot_sources(info, LATEST, pages)
        ]
        labels = [node.entry.name for node, _ in found]
        return [
            renamed(node, host) if labels.count(node.entry.name) > 1 else node
            for node, host in found
        ]


class View:
    """The root directory and how to walk from it."""

    def __init__(
        self,
        snapshots: Sequence[SnapshotInfo],
        latest_until_ns: int,
        id_key: IdKey,
        local_time: Callable[[datetime], datetime],
    ) -> None:
        """Show `snapshots` (oldest first); `latest` shows none later than `latest_until_ns`.

        `local_time` turns UTC into the wall time that names `by-time`.
        """
        self.snapshots = tuple(snapshots)
        self._id_key = id_key
        self._local_time = local_time
        newest: dict[HostId, SnapshotInfo] = {}
        for info in self.snapshots:
            if info.snapshot.taken_ns <= latest_until_ns:
                newest[info.snapshot.host] = info
        self.latest = tuple(newest.values())
        self.root = self._root()

    def lookup(self, directory: Node, name: bytes, pages: Pages) -> Node:
        """Return the node `name` in `directory`; raise NotFound where there is none."""
        if directory.shelf is not None:
            return by_name(directory.shelf.nodes(pages), name)
        self._refuse_unlisted(directory)
        tree = directory.entry.tree
        for _ in range(MAX_LEVELS):
            if not tree:
                break
            page = pages.page(TreeId(tree))
            if not page.pages:
                return self.child(directory, _entry_by_name(page.entries, name))
            place = bisect_right(page.pages, name, key=_first) - 1
            tree = page.pages[place].id if place >= 0 else b""
        raise NotFound("no such name")

    def listing(self, directory: Node) -> "Listing":
        """Return a fresh reading of a directory."""
        self._refuse_unlisted(directory)
        return Listing(self, directory)

    def snapshot_sources(self, info: SnapshotInfo, place: bytes, pages: Pages) -> list[Node]:
        """Return the source directories of one snapshot."""
        directory = snapshot_node(info, place, b"")
        listing = Listing(self, directory)
        return [node for _, node in listing.from_position(0, pages)]

    def child(self, directory: Node, entry: Entry) -> Node:
        """Return the node of an entry of `directory`."""
        scope = directory.scope
        if not scope.source:  # a source: an entry of a snapshot's root page
            trail = self._trail(_NO_PARENT, entry.origin or entry.name)
            scope = replace(scope, source=trail)
        elif entry.kind is Kind.DIRECTORY:
            trail = self._trail(directory.trail, entry.name)
        else:
            return Node(entry, scope, file_identity(scope, directory.trail, entry))
        identity = object_name(b"\0".join((b"d", scope.place, scope.snapshot + trail)))
        return Node(entry, scope, identity, trail)

    def _trail(self, parent: bytes, name: bytes) -> bytes:
        return derive(_TRAIL_CONTEXT, self._id_key.raw + parent + name)

    @staticmethod
    def _refuse_unlisted(directory: Node) -> None:
        if directory.entry.flaw is Flaw.UNLISTED and not directory.entry.tree:
            # empty would be a lie: the agent could not list it
            raise ObjectDamaged("this directory could not be listed when it was backed up")

    # -- the directories that we make -----------------------------------------------------------

    def _root(self) -> Node:
        taken_ns = max((info.snapshot.taken_ns for info in self.snapshots), default=0)
        latest = made(LATEST, LATEST, taken_ns, LatestSources(self, self.latest))
        by_id = tuple(
            snapshot_node(info, SNAPSHOTS, name)
            for info, name in zip(self.snapshots, short_names(self.snapshots), strict=True)
        )
        snapshots = made(SNAPSHOTS, SNAPSHOTS, taken_ns, fixed(by_id))
        by_time = made(BY_TIME, BY_TIME, taken_ns, fixed(self._dates()))
        return made(b"", b"", taken_ns, fixed((latest, by_time, snapshots)))

    def _dates(self) -> tuple[Node, ...]:
        dates: dict[bytes, dict[bytes, Node]] = {}
        for info in self.snapshots:
            moment = self._local_time(utc(info.snapshot.taken_ns))
            day = dates.setdefault(moment.strftime("%Y-%m-%d").encode(), {})
            name = free_name(day, moment.strftime("%H:%M:%S").encode())
            day[name] = snapshot_node(info, BY_TIME, name)
        return tuple(
            made(date, BY_TIME + date, latest_ns(day), fixed(tuple(day.values())))
            for date, day in dates.items()
        )


class Listing:
    """One reading of a directory, in name order, which can be resumed at any position it gave.

    A position is a number from 0; positions of a directory never change.  Memory: one page and
    the ids of the leaves so far.
    """

    def __init__(self, view: View, directory: Node) -> None:
        """Take the directory; nothing is read yet."""
        self._view = view
        self._directory = directory
        self._leaves: list[TreeId] = []
        root = directory.entry.tree
        self._pending: list[tuple[TreeId, int]] = [(TreeId(root), 0)] if root else []

    def from_position(self, position: int, pages: Pages) -> Iterator[tuple[int, Node]]:
        """Yield (position after it, node) from `position` on."""
        if self._directory.shelf is not None:
            nodes = self._directory.shelf.nodes(pages)
            yield from ((at + 1, nodes[at]) for at in range(position, len(nodes)))
            return
        leaf, at = position >> _LEAF_BITS, position & ((1 << _LEAF_BITS) - 1)
        while (page := self._leaf(leaf, pages)) is not None:
            for place in range(at, len(page.entries)):
                node = self._view.child(self._directory, page.entries[place])
                yield (leaf << _LEAF_BITS) + place + 1, node
            leaf, at = leaf + 1, 0

    def _leaf(self, number: int, pages: Pages) -> TreePage | None:
        """Return the `number`th leaf, finding those before it first."""
        while len(self._leaves) <= number:
            if not self._pending:
                return None
            # taken off only once its page is here, for `pages` may refuse to wait
            tree_id, level = self._pending[-1]
            if level > MAX_LEVELS:
                raise ObjectDamaged("a directory's pages lie deeper than any directory needs")
            page = pages.page(tree_id)
            self._pending.pop()
            if page.pages:
                self._pending += [(TreeId(ref.id), level + 1) for ref in reversed(page.pages)]
            else:
                self._leaves.append(tree_id)
        return pages.page(self._leaves[number])


def _entry_by_name(entries: Sequence[Entry], name: bytes) -> Entry:
    place = bisect_left(entries, name, key=_name)
    if place == len(entries) or entries[place].name != name:
        raise NotFound("no such name")
    return entries[place]
