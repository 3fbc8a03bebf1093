"""What the file system says: directories opened and listed without following a link, entries made.

Everything goes by descriptor, one component at a time, so that a directory swapped for a link
while we look leads nowhere.  Names are raw bytes.
"""

import operator
import os
import stat
import sys
from typing import Final, NamedTuple

from agent.errors import SourceUnavailable
from agent.model.tree import Entry, Flaw, Kind

KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}
FORMATS: Final = {kind: form for form, kind in KINDS.items()}
_ENCODING: Final = sys.getfilesystemencoding()  # as os.fsencode has them
_ESCAPES: Final = sys.getfilesystemencodeerrors()
_MODE_BITS: Final = 0o7777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class Found(NamedTuple):
    """A name in a directory, as the file system has it now."""

    name: bytes
    stat: os.stat_result


class OpenSource:
    """The root of a source, open: what lies below is reached through it alone."""

    def __init__(self, path: bytes) -> None:
        """Open the directory at `path`; raise SourceUnavailable where it is none, or a link."""
        try:
            self.fd = os.open(path, _DIRECTORY)
        except OSError as error:
            raise SourceUnavailable(
                f"a source cannot be opened: {error.strerror}",
                hint="it must be a real directory that the agent may read, and no link",
            ) from error
        self.stat = os.fstat(self.fd)
        self.device = self.stat.st_dev

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)

    def open(self, path: bytes) -> int:
        """Return a descriptor of the directory at `path` below the source; the caller closes it.

        Raises OSError, as open(2) does: also where a component has become a link.
        """
        if not path:
            return os.open(b".", _DIRECTORY, dir_fd=self.fd)
        return self._opened(path, _DIRECTORY)

    def step(self, path: bytes) -> int:
        """Return a descriptor to go on from; it cannot be listed.  Else as `open`."""
        return self._opened(path, _STEP)

    def _opened(self, path: bytes, how: int) -> int:
        *steps, last = path.split(b"/")
        at = self.fd
        try:
            for step in steps:
                below = os.open(step, _STEP, dir_fd=at)
                if at != self.fd:
                    os.close(at)
                at = below
            return os.open(last, how, dir_fd=at)
        finally:
            if at != self.fd:
                os.close(at)


class Siblings:
    """Opens directories of a source one after the other; not for concurrent use.

    The directory above the last one stays open, so that its siblings are one step away.
    """

    def __init__(self, source: OpenSource) -> None:
        """Take the source, open."""
        self._source = source
        self._path = b""
        self._fd = source.fd

    def open(self, path: bytes) -> int:
        """Return a descriptor of the directory at `path`, as `OpenSource.open` does."""
        above, _, last = path.rpartition(b"/")
        if above != self._path:
            self.close()
            if above:
                self._fd = self._source.step(above)
                self._path = above
        return os.open(last or b".", _DIRECTORY, dir_fd=self._fd)

    def close(self) -> None:
        """Let go of the directory above the last one."""
        if self._path:
            os.close(self._fd)
            self._path = b""
        self._fd = self._source.fd


def list_directory(fd: int) -> list[Found]:
    """Return what is in the directory, in name order; what vanishes meanwhile is left out."""
    found = []
    with os.scandir(fd) as names:
        for item in names:
            try:
                name = item.name.encode(_ENCODING, _ESCAPES)
                found.append(Found(name, item.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    found.sort(key=operator.itemgetter(0))
    return found


def look_up(fd: int, names: list[bytes]) -> list[Found]:
    """Return those of `names` that are in the directory, in the order given."""
    found = []
    for name in names:
        try:
            found.append(Found(name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def is_unchanged(entry: Entry, st: os.stat_result) -> bool:
    """Tell whether an entry still describes what is there: no change leaves all of this alone.

    A directory's size says nothing, and is not kept.
    """
    return (
        entry.ctime_ns == st.st_ctime_ns
        and entry.mtime_ns == st.st_mtime_ns
        and entry.inode == st.st_ino
        and FORMATS[entry.kind] | entry.mode == st.st_mode
        and (entry.size == st.st_size or entry.kind is not Kind.FILE)
        and entry.uid == st.st_uid
        and entry.gid == st.st_gid
    )


def make_entry(
    name: bytes,
    st: os.stat_result,
    device: int,
    *,
    target: bytes = b"",
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
    flaw: Flaw = Flaw.NONE,
) -> Entry:
    """Return the entry of what stat says; a file's content is the reader's to add.

    On another device than the source's own, inode numbers may meet others by chance: names there
    are never taken for hard links of each other.
    """
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    is_device = kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
    return Entry(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(st.st_mode),
        uid=st.st_uid,
        gid=st.st_gid,
        mtime_ns=st.st_mtime_ns,
        ctime_ns=st.st_ctime_ns,
        inode=st.st_ino,
        links=links(st, device),
        target=target,
        device=st.st_rdev if is_device else 0,
        xattrs=xattrs,
        flaw=flaw,
    )


def small_file_entry(
    name: bytes,
    st: os.stat_result,
    device: int,
    xattrs: tuple[tuple[bytes, bytes], ...],
    content: bytes,
    digest: bytes,
) -> Entry:
    """Return the entry of a file whose `content` is one extent, or none: `make_entry` in one go."""
    return Entry(
        name=name,
        mode=st.st_mode & _MODE_BITS,
        uid=st.st_uid,
        gid=st.st_gid,
        mtime_ns=st.st_mtime_ns,
        ctime_ns=st.st_ctime_ns,
        inode=st.st_ino,
        links=st.st_nlink if st.st_dev == device else 1,
        size=st.st_size,
        content=content,
        digest=digest,
        xattrs=xattrs,
    )


def links(st: os.stat_result, device: int) -> int:
    """Return the link count that an entry keeps; `device` is the source's own."""
    return 1 if stat.S_ISDIR(st.st_mode) or st.st_dev != device else st.st_nlink


def special_entry(fd: int, found: Found, device: int) -> Entry:
    """Return the entry of a directory, link or special file `found` in the directory `fd`.

    Raises OSError where it vanished meanwhile; the entry of a directory lacks its tree.
    """
    target = b""
    if stat.S_ISLNK(found.stat.st_mode):
        target = os.readlink(found.name, dir_fd=fd)
    # there is no lgetxattrat(2): the descriptor's name in /proc stands for the directory
    attributes = xattrs(b"/proc/self/fd/%d/%b" % (fd, found.name))
    return make_entry(found.name, found.stat, device, target=target, xattrs=attributes)


def xattrs(of: int | bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the extended attributes, sorted, of an open file or of what a path itself names."""
    follow = isinstance(of, int)
    try:
        names = os.listxattr(of, follow_symlinks=follow)
    except OSError:  # not supported there: nothing to keep
        return ()
    kept = []
    for name in names:
        try:
            kept.append((os.fsencode(name), os.getxattr(of, name, follow_symlinks=follow)))
        except OSError:  # removed meanwhile, or not for us to read
            continue
    return tuple(sorted(kept))
