"""What stat(2) and statfs(2) show, as pyfuse3 takes it: as archived, nanoseconds included."""

import stat

from pyfuse3 import EntryAttributes, StatvfsData

from agent.model.tree import HOLE, Entry, Kind, unpack_extents
from fsdriver.nodes import Node
from fsdriver.view import View

# Snapshots never change, and locking invalidates explicitly, so the kernel may keep what it knows
# for longer than any session: `tar` of 20,000 files is three times as fast (docs/mount.md).
TIMEOUT_S = 86_400.0
BLOCK_BYTES = 4096
PREFERRED_IO_BYTES = 128 * 1024
_SECTOR = 512

_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def attributes(node: Node, number: int) -> EntryAttributes:
    """Return a node's attributes under an inode number."""
    entry = node.entry
    result = EntryAttributes()
    result.st_ino = number
    result.entry_timeout = result.attr_timeout = TIMEOUT_S
    result.st_mode = _FORMATS[entry.kind] | entry.mode
    # 1 is what btrfs says of directories: find(1) then does not count subdirectories by it
    result.st_nlink = 1 if node.is_directory else entry.links
    result.st_uid, result.st_gid = entry.uid, entry.gid
    result.st_rdev = entry.device
    result.st_size = len(entry.target) if entry.kind is Kind.SYMLINK else entry.size
    result.st_blksize = PREFERRED_IO_BYTES
    result.st_blocks = -(-stored_bytes(entry) // _SECTOR)
    result.st_mtime_ns = result.st_atime_ns = entry.mtime_ns
    result.st_ctime_ns = entry.ctime_ns
    return result


def totals(view: View) -> StatvfsData:
    """Return the totals of the newest snapshots; nothing is free: nothing can be written."""
    result = StatvfsData()
    result.f_bsize = result.f_frsize = BLOCK_BYTES
    stored = sum(info.snapshot.bytes for info in view.latest)
    result.f_blocks = -(-stored // BLOCK_BYTES)
    result.f_files = sum(info.snapshot.files for info in view.latest)
    result.f_namemax = 255
    return result


def stored_bytes(entry: Entry) -> int:
    """Return how many of a file's bytes are no holes.

    A file with content pages counts whole: the pages would have to be fetched to know.
    """
    if entry.depth or HOLE not in entry.content:
        return entry.size if entry.content else 0
    return sum(extent.length for extent in unpack_extents(entry.content) if not extent.is_hole)
