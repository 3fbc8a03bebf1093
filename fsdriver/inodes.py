"""Which inode numbers the kernel holds, and for which nodes.

A number is 63 bits of the node's identity: the same after a remount, after a forget, and for all
names of a hard-linked file in one snapshot; never shared by two snapshots.  The table grows with
what the kernel remembers and shrinks with what it forgets; what it holds too much of is named by
`excess`, so that memory, and the time that locking takes, stay bounded.

For one thread: the event loop's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from agent.errors import NotFound
from fsdriver.nodes import Node, Place

ROOT_NUMBER = 1  # FUSE_ROOT_ID
LIVE_TARGET = 40_000  # about 1 KiB each here, and 8 µs each of locking (docs/mount.md)
MAX_LEVELS = 2048  # of directories: a path has no more (PATH_MAX)
_MASK = (1 << 63) - 1  # some programs keep st_ino in a signed 64-bit integer


@dataclass(slots=True)
class Held:
    """A node that the kernel holds, under which names, and how often it was looked up."""

    node: Node
    parent: int
    names: tuple[tuple[int, bytes], ...]  # (parent, name) of each name the kernel was told
    lookups: int = 0
    opened: int = 0


class InodeTable:
    """Numbers to nodes, for as long as the kernel may ask by number."""

    def __init__(self, root: Node) -> None:
        """Hold the root, which the kernel never forgets."""
        self._held: dict[int, Held] = {ROOT_NUMBER: Held(root, ROOT_NUMBER, (), 1)}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def __getitem__(self, number: int) -> Held:
        """Return what the kernel means by `number`; raise NotFound where it holds no such."""
        held = self._held.get(number)
        if held is None:
            raise NotFound("no such inode")
        return held

    def number(self, node: Node) -> int:
        """Return the number of a node, without the kernel holding it."""
        number = _number(node.identity)
        while number <= ROOT_NUMBER or (
            (held := self._held.get(number)) is not None and held.node.identity != node.identity
        ):
            number = (number + 1) & _MASK
        return number

    def remember(self, node: Node, parent: int) -> int:
        """Count one lookup of a node by the kernel and return its number."""
        number = self.number(node)
        key = (parent, node.entry.name)
        held = self._held.get(number)
        if held is None:
            held = self._held[number] = Held(node, parent, (key,))
        elif key not in held.names:
            held.names = (*held.names, key)
        held.lookups += 1
        return number

    def forget(self, forgets: Iterable[tuple[int, int]]) -> None:
        """Take back lookups; what the kernel no longer holds goes.  Raises nothing."""
        for number, lookups in forgets:
            held = self._held.get(number)
            if held is None or number == ROOT_NUMBER:
                continue
            held.lookups -= lookups
            if held.lookups <= 0:
                del self._held[number]

    def live(self) -> list[tuple[int, Held]]:
        """Return everything the kernel holds, newest first: children before their parents."""
        return list(reversed(self._held.items()))

    def places(self, held: Held) -> list[Place]:
        """Return where something lies: its name and tree, its directory's, and so on upwards."""
        found: list[Place] = []
        while held.parent in self._held and len(found) < MAX_LEVELS:
            above = self._held[held.parent]
            if not above.node.entry.tree:
                break  # a directory of ours: what lies beside a snapshot is no part of a walk
            found.append(Place(above.node.entry.tree, held.node.entry.name))
            held = above
        return found

    def excess(self, batch: int) -> list[tuple[int, bytes]]:
        """Return up to `batch` names that the kernel should drop, oldest first: files, if any."""
        spare = min(batch, len(self._held) - LIVE_TARGET)
        if spare <= 0:
            return []
        files = islice((held for held in self._idle() if not held.node.is_directory), spare)
        chosen = list(files) or list(islice(self._idle(), spare))
        return [key for held in chosen for key in held.names]

    def _idle(self) -> Iterator[Held]:
        return (
            held for number, held in self._held.items() if not held.opened and number != ROOT_NUMBER
        )


def _number(identity: bytes) -> int:
    return int.from_bytes(identity[:8], "little") & _MASK
