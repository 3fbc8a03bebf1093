"""What the kernel has open: a number for each, which keeps its inode from being let go."""

from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

from agent.errors import NotFound
from fsdriver.ahead import ReadPattern
from fsdriver.content import Content
from fsdriver.inodes import InodeTable
from fsdriver.nodes import Node
from fsdriver.view import Listing


class Opened(Protocol):
    """Something open."""

    @property
    def number(self) -> int:
        """Its inode number."""
        ...


O = TypeVar("O", bound=Opened)  # noqa: E741 - what is open


@dataclass(slots=True)
class OpenFile:
    """An open file: its bytes and how they are read."""

    number: int
    content: Content
    pattern: ReadPattern = field(default_factory=ReadPattern)


@dataclass(slots=True)
class OpenDirectory:
    """An open directory: the reading of it, and what was read but did not fit the last answer."""

    number: int
    listing: Listing
    position: int = 0
    ready: list[tuple[int, Node]] = field(default_factory=list)


class Handles(Generic[O]):
    """Open files, or open directories.  For the event loop."""

    def __init__(self, inodes: InodeTable) -> None:
        """Take the table that knows how often each inode is open."""
        self._inodes = inodes
        self._numbers = count(1)
        self._open: dict[int, O] = {}

    def add(self, opened: O) -> int:
        """Return the number of what was opened."""
        self._inodes[opened.number].opened += 1
        handle = next(self._numbers)
        self._open[handle] = opened
        return handle

    def __getitem__(self, handle: int) -> O:
        """Return what has that number; raise NotFound where nothing has."""
        opened = self._open.get(handle)
        if opened is None:
            raise NotFound("no such handle")
        return opened

    def release(self, handle: int) -> None:
        """Close it, if it is open."""
        opened = self._open.pop(handle, None)
        if opened is not None and opened.number in self._inodes:
            self._inodes[opened.number].opened -= 1
