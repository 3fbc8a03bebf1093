"""The pyfuse3 adapter: what the kernel asks, answered from the view, a few lines a handler.

What is in memory is answered without a checkpoint: each costs as much as most answers do.
"""

import errno
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, StatvfsData

from agent.model.tree import Flaw
from fsdriver.ahead import BATCH_BYTES, ReadAhead
from fsdriver.answering import answering
from fsdriver.attributes import attributes, totals
from fsdriver.cache import NotCached, PageCache
from fsdriver.content import Bytes, Content, ContentReader
from fsdriver.digests import own_attribute
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.handles import Handles, OpenDirectory, OpenFile
from fsdriver.inodes import Held, InodeTable
from fsdriver.lock import SessionLock
from fsdriver.nodes import Node, Pages
from fsdriver.view import View

AUDIT_DIGITS = 16  # of a directory's keyed digest, as the audit names it
LISTED_AT_ONCE = 128  # about what one of the kernel's readdir buffers takes
SMALL_BYTES = 64 * 1024  # given to the kernel with the open, which saves it asking
WALKED_BYTES = 1024 * 1024  # likewise, to who reads file after file: 0.1 ms, as a few requests

T = TypeVar("T")


class VitrineOperations(pyfuse3.Operations):
    """Answers the kernel."""

    supports_dot_lookup = False
    enable_acl = False  # the kernel would enforce archived ACLs; the gate has decided already
    enable_writeback_cache = False

    def __init__(
        self,
        view: View,
        pages: PageCache,
        reader: ContentReader,
        ahead: ReadAhead,
        gatekeeper: Gatekeeper,
    ) -> None:
        """Take what answers come from; `started` is set once the kernel speaks with us."""
        super().__init__()
        self.view = view
        self.lock = SessionLock()
        self.gatekeeper = gatekeeper
        self.inodes = InodeTable(view.root)
        self.started = trio.Event()
        self._pages = pages
        self._reader = reader
        self._room = memoryview(bytearray(WALKED_BYTES))  # a fresh one each time costs page faults
        self._ahead = ahead
        self._files: Handles[OpenFile] = Handles(self.inodes)
        self._directories: Handles[OpenDirectory] = Handles(self.inodes)

    def init(self) -> None:
        """Note that the kernel has begun to speak with us."""
        self.started.set()

    # -- names ----------------------------------------------------------------------------------

    @answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of a name, which the kernel holds from now on."""
        parent = self.inodes[parent_inode].node
        node = await self._resolved(lambda pages: self.view.lookup(parent, name, pages))
        self.lock.check()
        return attributes(node, self.inodes.remember(node, parent_inode))

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        """Let go of what the kernel no longer holds."""
        self.inodes.forget(inode_list)

    @answering
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of what the kernel holds."""
        return attributes(self.inodes[inode].node, inode)

    @answering
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return where a symbolic link points, as archived."""
        return self.inodes[inode].node.entry.target

    @answering
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Allow everything but writing: the gate has decided, archived modes are information."""
        if mode & os.W_OK:
            raise FUSEError(errno.EROFS)
        return bool(self.inodes[inode])

    @answering
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an extended attribute as archived, ACLs included, or a digest of ours."""
        entry = self.inodes[inode].node.entry
        for archived, value in entry.xattrs:
            if archived == name:
                return value
        if value := own_attribute(entry, name):
            return value
        raise FUSEError(errno.ENODATA)  # never ENOSYS: the kernel would not ask again for any file

    @answering
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the extended attributes."""
        return [name for name, _ in self.inodes[inode].node.entry.xattrs]

    @answering
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return the totals of the newest snapshots; nothing is free: nothing can be written."""
        return totals(self.view)

    # -- directories ----------------------------------------------------------------------------

    @answering
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Return a handle on a fresh reading of a directory."""
        held = self.inodes[inode]
        return self._directories.add(OpenDirectory(inode, self.view.listing(held.node)))

    @answering
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Answer as many names as fit, from position `start_id`: `.`, `..`, then the view's."""
        opened = self._directories[fh]
        if start_id < 2 and not self._reply_dots(opened, start_id, token):
            return
        position = max(start_id - 2, 0)
        while True:
            if position != opened.position or not opened.ready:
                opened.ready = await self._listed(opened, position)
                opened.position = position
                self.lock.check()
            if not opened.ready or not self._reply_nodes(opened, token):
                return
            position = opened.position

    async def releasedir(self, fh: int) -> None:
        """Forget a reading; also when locked."""
        self._directories.release(fh)

    # -- files ----------------------------------------------------------------------------------

    @answering
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Return a handle on a file's bytes; counts as one opened file of its directory."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise FUSEError(errno.EROFS)
        held = self.inodes[inode]
        entry = held.node.entry
        if entry.flaw is Flaw.UNREADABLE:
            raise FUSEError(errno.EIO)  # its content was never read: empty would be a lie
        ahead = self._noted(held)
        content = ahead or Content(entry, self._reader)
        if 0 < entry.size <= (WALKED_BYTES if ahead else SMALL_BYTES) and not held.opened:
            self._give(inode, content)
        opened = OpenFile(inode, content)
        if ahead:
            opened.pattern.fetched = min(BATCH_BYTES, entry.size)
        return FileInfo(fh=self._files.add(opened), keep_cache=True)

    @answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return bytes of a file: from memory at once, else from a thread that fetches them."""
        opened = self._files[fh]
        data: Bytes | None = opened.content.read_cached(off, size)
        if data is None:
            data = await self.lock.in_thread(functools.partial(opened.content.read, off, size))
        self._ahead.read(opened.content, opened.pattern, off, len(data))
        return data  # type: ignore[return-value]  # pyfuse3 takes any contiguous buffer

    async def release(self, fh: int) -> None:
        """Close a file; also when locked."""
        self._files.release(fh)

    # -- inside ---------------------------------------------------------------------------------

    async def _resolved(self, work: Callable[[Pages], T]) -> T:
        """Return what `work` finds in cached pages, or in a thread where it has to fetch some."""
        try:
            return work(self._pages.only)
        except NotCached:
            return await self.lock.in_thread(functools.partial(work, self._pages))

    async def _listed(self, opened: OpenDirectory, position: int) -> list[tuple[int, Node]]:
        return await self._resolved(
            lambda pages: list(
                islice(opened.listing.from_position(position, pages), LISTED_AT_ONCE)
            )
        )

    def _reply_dots(self, opened: OpenDirectory, start: int, token: ReaddirToken) -> bool:
        """Add `.` and `..`; the kernel does not count these as looked up."""
        parent = self.inodes[opened.number].parent
        for position, number, name in ((0, opened.number, b"."), (1, parent, b"..")):
            if position >= start:
                node = self.inodes[number].node
                if not pyfuse3.readdir_reply(token, name, attributes(node, number), position + 1):
                    return False
        return True

    def _reply_nodes(self, opened: OpenDirectory, token: ReaddirToken) -> bool:
        """Add what is ready; tell whether all of it fitted.  What fitted, the kernel holds."""
        for done, (after, node) in enumerate(opened.ready):
            number = self.inodes.number(node)
            entry = attributes(node, number)
            if not pyfuse3.readdir_reply(token, node.entry.name, entry, after + 2):
                del opened.ready[:done]
                return False
            self.inodes.remember(node, opened.number)
            opened.position = after
        opened.ready = []
        return True

    def _noted(self, held: Held) -> Content | None:
        """Put an open on record; return the content of a file that was fetched ahead."""
        if held.parent not in self.inodes:
            return None
        directory = self.inodes[held.parent].node
        self.gatekeeper.opened(directory.trail.hex()[:AUDIT_DIGITS])
        places = functools.partial(self.inodes.places, held)
        return self._ahead.opened(places, directory.entry.tree, held.node.entry.name)

    def _give(self, inode: int, content: Content) -> None:
        """Give the kernel a small file whole, if it is in memory: then it need not ask for it.

        Only while nobody has it open: the kernel would wait here for its own read of the same
        pages, and that read for this loop.
        """
        data = content.whole_cached(self._room)
        if data is not None:
            with suppress(OSError):  # then it asks
                pyfuse3.notify_store(inode, 0, data)  # type: ignore[arg-type]  # as in `read`
