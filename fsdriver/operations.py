"""The pyfuse3 adapter: what the kernel asks, answered from the view, a few lines a handler.

Only FUSEError may leave a handler, since anything else would end the whole mount; one decorator
sees to it.  It also asks the lock before a handler starts and again when it is done, with no
checkpoint between that and the answer: nothing is answered after refusing has begun.
"""

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, StatvfsData

from agent.errors import VitrineError
from agent.model.tree import Entry, Flaw, Kind
from fsdriver.ahead import ReadAhead, ReadPattern
from fsdriver.cache import NotCached, PageCache
from fsdriver.content import Bytes, Content, ContentReader, stored_bytes
from fsdriver.digests import own_attribute
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.inodes import Held, InodeTable
from fsdriver.lock import SessionLock
from fsdriver.nodes import Node, Pages
from fsdriver.view import Listing, View

# Snapshots never change, and locking invalidates explicitly, so the kernel may keep what it knows
# for longer than any session: `tar` of 20,000 files is three times as fast (docs/mount.md).
TIMEOUT_S = 86_400.0
BLOCK_BYTES = 4096
PREFERRED_IO_BYTES = 128 * 1024
LISTED_AT_ONCE = 128  # about what one of the kernel's readdir buffers takes
AUDIT_DIGITS = 16  # of a directory's keyed digest, as the audit names it

_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Handler = Callable[Concatenate["VitrineOperations", P], Coroutine[Any, Any, R]]


def answering(handler: Handler[P, R]) -> Handler[P, R]:
    """Make a handler refuse once locked, and fail with FUSEError only."""

    @functools.wraps(handler)
    async def answer(operations: "VitrineOperations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            operations.lock.check()
            operations.gatekeeper.used()
            result = await handler(operations, *args, **kwargs)
            operations.lock.check()
        except FUSEError:
            raise
        except VitrineError as error:
            if error.errno == errno.EIO:
                log.warning("an operation failed: %s", error.message)
            raise FUSEError(error.errno) from None
        except Exception as error:  # noqa: BLE001 - anything else would end the mount
            log.error("an operation failed: %s", type(error).__qualname__)
            raise FUSEError(errno.EIO) from None
        return result

    return answer


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
        self._ahead = ahead
        self._handles = count(1)
        self._files: dict[int, OpenFile] = {}
        self._directories: dict[int, OpenDirectory] = {}

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
        totals = StatvfsData()
        totals.f_bsize = totals.f_frsize = BLOCK_BYTES
        stored = sum(info.snapshot.bytes for info in self.view.latest)
        totals.f_blocks = -(-stored // BLOCK_BYTES)
        totals.f_files = sum(info.snapshot.files for info in self.view.latest)
        totals.f_namemax = 255
        return totals

    # -- directories ----------------------------------------------------------------------------

    @answering
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Return a handle on a fresh reading of a directory."""
        held = self.inodes[inode]
        opened = OpenDirectory(inode, self.view.listing(held.node))
        return self._handle(self._directories, opened, held)

    @answering
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Answer as many names as fit, from position `start_id`: `.`, `..`, then the view's."""
        opened = self._open(self._directories, fh)
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
        self._release(self._directories, fh)

    # -- files ----------------------------------------------------------------------------------

    @answering
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Return a handle on a file's bytes; counts as one opened file of its directory."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise FUSEError(errno.EROFS)
        held = self.inodes[inode]
        if held.node.entry.flaw is Flaw.UNREADABLE:
            raise FUSEError(errno.EIO)  # its content was never read: empty would be a lie
        opened = OpenFile(inode, Content(held.node.entry, self._reader))
        parent = self._parent(held)
        if parent is not None:
            self.gatekeeper.opened(parent.trail.hex()[:AUDIT_DIGITS])
            self._ahead.opened(parent, held.node.entry)
        return FileInfo(fh=self._handle(self._files, opened, held), keep_cache=True)

    @answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return bytes of a file: from memory at once, else from a thread that fetches them."""
        opened = self._open(self._files, fh)
        data: Bytes | None = opened.content.read_cached(off, size)
        if data is None:
            data = await self.lock.in_thread(functools.partial(opened.content.read, off, size))
        self._ahead.read(opened.content, opened.pattern, off, len(data))
        return data  # type: ignore[return-value]  # pyfuse3 takes any contiguous buffer

    async def release(self, fh: int) -> None:
        """Close a file; also when locked."""
        self._release(self._files, fh)

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

    def _handle(self, handles: dict[int, T], opened: T, held: Held) -> int:
        held.opened += 1
        fh = next(self._handles)
        handles[fh] = opened
        return fh

    @staticmethod
    def _open(handles: dict[int, T], fh: int) -> T:
        opened = handles.get(fh)
        if opened is None:
            raise FUSEError(errno.EBADF)
        return opened

    def _release(self, handles: dict[int, OpenFile] | dict[int, OpenDirectory], fh: int) -> None:
        opened = handles.pop(fh, None)
        if opened is not None and opened.number in self.inodes:
            self.inodes[opened.number].opened -= 1

    def _parent(self, held: Held) -> Node | None:
        return self.inodes[held.parent].node if held.parent in self.inodes else None


def attributes(node: Node, number: int) -> EntryAttributes:
    """Return a node's attributes as archived, nanoseconds included."""
    entry = node.entry
    result = EntryAttributes()
    result.st_ino = number
    result.entry_timeout = result.attr_timeout = TIMEOUT_S
    result.st_mode = _FORMATS[entry.kind] | entry.mode
    # 1 is what btrfs says of directories: find(1) then does not count subdirectories by it
    result.st_nlink = 1 if node.is_directory else entry.links
    result.st_uid, result.st_gid = entry.uid, entry.gid
    result.st_rdev = entry.device
    result.st_size = _size(entry)
    result.st_blksize = PREFERRED_IO_BYTES
    result.st_blocks = -(-stored_bytes(entry) // 512)
    result.st_mtime_ns = result.st_atime_ns = entry.mtime_ns
    result.st_ctime_ns = entry.ctime_ns
    return result


def _size(entry: Entry) -> int:
    return len(entry.target) if entry.kind is Kind.SYMLINK else entry.size
