"""What stands at a name in a mount: nodes, and the directories that are in no snapshot."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from agent.crypto.naming import object_name
from agent.errors import NotFound, ObjectDamaged
from agent.model.ids import SHORT_HEX, HostId, TreeId, short
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Entry, Kind, TreePage


class Pages(Protocol):
    """Where verified tree pages come from."""

    def page(self, tree_id: TreeId) -> TreePage:
        """Return a page."""
        ...


class Place(NamedTuple):
    """A name in a directory of a snapshot."""

    tree: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Scope:
    """Which snapshot and source a node belongs to, and at which of the places it was found."""

    place: bytes
    snapshot: bytes = b""
    source: bytes = b""  # trail of the source's directory


class Node(msgspec.Struct, frozen=True, eq=False):
    """One file, directory or other name in the view.

    `identity` is 32 bytes, the same whenever and wherever the same snapshot is mounted; names of
    one hard-linked file share it.  `trail` stands for a directory's path, keyed with the vault's
    id key, the same in every snapshot.
    """

    entry: Entry
    scope: Scope
    identity: bytes
    trail: bytes = b""
    shelf: "Shelf | None" = None

    @property
    def is_directory(self) -> bool:
        """Tell whether it has names below it."""
        return self.entry.kind is Kind.DIRECTORY


class Shelf(Protocol):
    """The names in a directory that is in no snapshot: few, and made by us."""

    def nodes(self, pages: Pages) -> Sequence[Node]:
        """Return the nodes, sorted by name."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Names that are known when the view is made."""

    sorted_nodes: tuple[Node, ...]

    def nodes(self, pages: Pages) -> Sequence[Node]:
        """Return the nodes, sorted by name."""
        return self.sorted_nodes


def snapshot_node(info: SnapshotInfo, place: bytes, name: bytes) -> Node:
    """Return the directory of one snapshot, as `name` at `place`."""
    snapshot = info.snapshot
    entry = Entry(
        name=name,
        kind=Kind.DIRECTORY,
        mode=0o555,
        mtime_ns=snapshot.taken_ns,
        ctime_ns=snapshot.taken_ns,
        tree=snapshot.root,
    )
    identity = object_name(b"\0".join((b"s", place, info.id)))
    return Node(entry, Scope(place, info.id), identity)


def file_identity(scope: Scope, parent_trail: bytes, entry: Entry) -> bytes:
    """Return what makes two names the same file, wherever in the view they are seen.

    The digest and kind stand beside the archived inode number, since a source may span file
    systems that number alike: names never share content that differs.
    """
    if entry.links > 1:
        number = entry.inode.to_bytes(8, "little") + bytes([entry.kind])
        return object_name(b"\0".join((b"l", scope.snapshot + scope.source + number, entry.digest)))
    return object_name(b"\0".join((b"f", scope.snapshot + parent_trail, entry.name)))


def by_name(nodes: Sequence[Node], name: bytes) -> Node:
    """Return the node of that name from sorted ones; raise NotFound where there is none."""
    place = bisect_left(nodes, name, key=lambda node: node.entry.name)
    if place == len(nodes) or nodes[place].entry.name != name:
        raise NotFound("no such name")
    return nodes[place]


def renamed(node: Node, host: HostId) -> Node:
    """Return the node of a source under its label and its host."""
    name = node.entry.name + b"@" + short(host).encode()
    entry = msgspec.structs.replace(node.entry, name=name)
    return msgspec.structs.replace(node, entry=entry)


def made(name: bytes, what: bytes, time_ns: int, shelf: Shelf) -> Node:
    """Return a directory of ours; `what` tells it from all others."""
    entry = Entry(name=name, kind=Kind.DIRECTORY, mode=0o555, mtime_ns=time_ns, ctime_ns=time_ns)
    return Node(entry, Scope(what), object_name(b"m\0" + what), shelf=shelf)


def fixed(nodes: Iterable[Node]) -> Fixed:
    """Return a shelf with these nodes."""
    return Fixed(tuple(sorted(nodes, key=lambda node: node.entry.name)))


def latest_ns(day: dict[bytes, Node]) -> int:
    """Return the time of the newest node."""
    return max(node.entry.mtime_ns for node in day.values())


def free_name(taken: dict[bytes, Node], name: bytes) -> bytes:
    """Return `name`, or the first of `name-2`, `name-3` … that is free."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = b"%s-%d" % (name, number)
    return free


def short_names(snapshots: Sequence[SnapshotInfo]) -> list[bytes]:
    """Return the short id of each snapshot, longer for all where two would share one."""
    for length in (SHORT_HEX, 2 * SHORT_HEX, 64):
        names = [info.id.hex()[:length].encode() for info in snapshots]
        if len(set(names)) == len(names):
            return names
    raise ObjectDamaged("the same snapshot is listed twice")
