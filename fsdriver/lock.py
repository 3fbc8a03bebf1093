"""How a session's mount is shut: refuse, invalidate, in that order and never another.

Unmounting first would leave plaintext in the page cache, readable through every descriptor and
map that is still open (docs/mount.md has the table).  The kernel drops what it caches only when
told so, and it must not be told while an operation can still answer.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import ParamSpec, TypeVar

import trio

from agent.errors import SessionExpired
from fsdriver.inodes import ROOT_NUMBER, InodeTable

FORGET_S = 0.01  # between two looks at what the kernel has forgotten
READ_THREADS = 8  # fetching waits for the store, so more than the cores

T = TypeVar("T")
P = ParamSpec("P")

InvalidateInode = Callable[[int], None]
"""Make the kernel drop an inode's attributes, pages and maps; OSError where it has none."""

InvalidateEntry = Callable[[int, bytes], None]
"""Make the kernel drop a name in a directory; OSError where it has none."""


class SessionLock:
    """Whether operations are answered, and the threads that work for them."""

    def __init__(self) -> None:
        """Start open."""
        self.refusing = False
        self._waiting: set[trio.CancelScope] = set()
        self._limiter = trio.CapacityLimiter(READ_THREADS)

    def check(self) -> None:
        """Raise SessionExpired once the session is locked."""
        if self.refusing:
            raise SessionExpired("the session is locked", hint="unlock again")

    @property
    def is_awaited(self) -> bool:
        """Whether an operation waits for a thread."""
        return bool(self._waiting)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in a thread; raise SessionExpired at once on locking."""
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                return await trio.to_thread.run_sync(
                    work, limiter=self._limiter, abandon_on_cancel=True
                )
            finally:
                self._waiting.discard(scope)
        raise SessionExpired("the session was locked meanwhile", hint="unlock again")

    def refuse(self) -> None:
        """From now on refuse everything, also what is being waited for."""
        self.refusing = True
        for scope in self._waiting:
            scope.cancel()


async def invalidate(
    inodes: InodeTable, invalidate_inode: InvalidateInode, invalidate_entry: InvalidateEntry
) -> None:
    """Empty the kernel's caches of all it holds; both calls may block, so threads make them.

    First the pages of what is open, for maps and descriptors are what reads without asking.  Then
    the names in the root: with a name the kernel drops all below it that nobody uses, pages too,
    and forgets the inodes.  What it still holds after that is taken one by one.  A name or inode
    that the kernel has dropped by itself is an OSError here, and what was wanted.
    """
    held = inodes.live()
    opened = [number for number, one in held if one.opened]
    top = [name for _, one in held for name in one.names if name[0] == ROOT_NUMBER]
    await trio.to_thread.run_sync(_drop_inodes, opened, invalidate_inode)
    await trio.to_thread.run_sync(drop_names, top, invalidate_entry)
    await _forgotten(inodes)
    held = inodes.live()
    names = [name for _, one in held for name in one.names]
    await trio.to_thread.run_sync(_drop_inodes, [number for number, _ in held], invalidate_inode)
    await trio.to_thread.run_sync(drop_names, names, invalidate_entry)


async def _forgotten(inodes: InodeTable) -> None:
    """Wait for as long as the kernel says that it forgets more."""
    before = len(inodes) + 1
    while len(inodes) < before:
        before = len(inodes)
        await trio.sleep(FORGET_S)


def _drop_inodes(numbers: Iterable[int], invalidate_inode: InvalidateInode) -> None:
    for number in numbers:
        with suppress(OSError):
            invalidate_inode(number)


def drop_names(names: Iterable[tuple[int, bytes]], invalidate_entry: InvalidateEntry) -> None:
    """Make the kernel drop `names`; blocks, as above."""
    for parent, name in names:
        with suppress(OSError):
            invalidate_entry(parent, name)
