"""A store in a directory: an object is a file, whole by link(2) and durable by fsync(2).

A put writes `.tmp-…` in the root, syncs it, links it to its name (which fails if that is taken),
syncs the directory and removes the temporary name.  The writer holds flock(2) on the temporary
file; whoever opens the store removes those that nobody holds.  Where a shared file system keeps
locks to one host, that may take a living writer's file: its put then raises, and stores nothing.
A draft is such a file for as long as it is written.

No link is followed below the root, which itself may be one.  Directories are made with mode 0750
and files with 0640, less the umask: with a set-group-id root the repository's readers are a group,
and with umask 077 there are none.  What root or maintenance makes in another's repository belongs
to that one, where the kernel lets us give it away: an agent must be able to go on writing there.
The file system must have hard links: not FAT or exFAT.
"""

import errno
import os
import stat
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from agent.errors import (
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from agent.store.base import (
    Draft,
    Listed,
    Part,
    checked_name,
    checked_prefix,
    checked_range,
    is_name,
)
from agent.store.exact import holds, read_exactly, write_all
from agent.store.temporary import Owner, TemporaryFile, give_away, sweep

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO in an object's place must not hang us
_DIRECTORY_MODE = 0o750


class LocalStore:
    """Objects below one directory, which stays open: a file system mounted over it changes nothing.

    That also holds for one that is unmounted: nothing is ever written to a bare mount point.
    """

    def __init__(self, root: Path) -> None:
        """Open the directory `root` and remove what dead writers left in it, where we may.

        Raises StoreUnavailable where `root` is no directory that can be read.
        """
        with _reported(f"the repository's directory {root}"):
            self._root = os.open(root, _DIRECTORY)
            self._closed = weakref.finalize(self, os.close, self._root)
            self._owner = _other_owner(self._root)
            self._durable: set[str] = set()  # directories whose own names are known to be synced
            sweep(self._root)

    @classmethod
    def create(cls, root: Path) -> Self:
        """Open the directory `root`, made with what is missing above it, durably."""
        with _reported(f"the repository's directory {root}"):
            _make_durable(root)
        return cls(root)

    def close(self) -> None:
        """Close the directory; the store cannot be used after that.  Twice is once."""
        self._closed()

    # -- the contract ---------------------------------------------------------------------------

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store the concatenation of `parts` as `name`, whole and durable on return."""
        *above, last = checked_name(name).split("/")
        views = [view for part in parts if (view := memoryview(part).cast("B"))]
        with _reported(name), self._directory(above, make=True) as directory:
            if _kept(directory, last, views, name):
                return
            written = TemporaryFile(self._root, self._owner)
            try:
                write_all(written.file, views)
                self._name(written, directory, last, name)
            finally:
                written.remove()

    def begin(self) -> Draft:
        """Return an object to be written piece by piece, to a temporary file."""
        with _reported("a new object"):
            return _LocalDraft(self, TemporaryFile(self._root, self._owner))

    def get(self, name: str) -> bytes:
        """Return the whole object."""
        with self._opened(name) as file:
            return read_exactly(file, 0, os.fstat(file).st_size, name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        start, wanted = checked_range(offset, length)
        with self._opened(name) as file:
            if start + wanted > os.fstat(file).st_size:  # before memory is set aside for it
                raise ObjectDamaged(f"{name} ends before byte {start + wanted}")
            return read_exactly(file, start, wanted, name)

    def size(self, name: str) -> int:
        """Return the object's length in bytes."""
        with self._opened(name) as file:
            return os.fstat(file).st_size

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below `prefix`; one open directory for each `/` in their names."""
        above = checked_prefix(prefix).split("/")[:-1]
        with (
            _reported(prefix or "the repository's directory"),
            suppress(FileNotFoundError),
            self._directory(above) as directory,
        ):
            yield from _listed(directory, prefix)

    def delete(self, name: str) -> None:
        """Remove the object, if it is there."""
        *above, last = checked_name(name).split("/")
        with _reported(name), suppress(FileNotFoundError), self._directory(above) as directory:
            with suppress(FileNotFoundError):
                os.unlink(last, dir_fd=directory)
            os.fsync(directory)  # also where it is gone: who removed it may not have come this far

    # -- directories ----------------------------------------------------------------------------

    @contextmanager
    def _directory(self, segments: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a directory below the root, through no link; `make` what is missing, durably."""
        # Not dup(2): descriptors that share a position would share one listing between threads.
        directory = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            for depth, segment in enumerate(segments, 1):
                if make:
                    self._make(directory, segment, "/".join(segments[:depth]))
                below = os.open(segment, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)

    def _make(self, above: int, segment: str, path: str) -> None:
        """Make a directory, if it is not there, and its name durable, whoever made it."""
        try:
            os.mkdir(segment, _DIRECTORY_MODE, dir_fd=above)
            give_away(segment, above, self._owner)
        except FileExistsError:
            if path in self._durable:
                return
        os.fsync(above)  # its maker may be about to do this, or be dead
        self._durable.add(path)

    # -- files ----------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Open an object for reading."""
        *above, last = checked_name(name).split("/")
        with _reported(name):
            try:
                with self._directory(above) as directory:
                    file = _open_object(directory, last, name)
            except FileNotFoundError:
                raise ObjectMissing(f"{name} is not in the repository") from None
            try:
                yield file
            finally:
                os.close(file)

    def keep(self, written: TemporaryFile, name: str) -> None:
        """Put the content of a file of this store: content before name, name before return."""
        *above, last = checked_name(name).split("/")
        with _reported(name), self._directory(above, make=True) as directory:
            self._name(written, directory, last, name)

    def _name(self, written: TemporaryFile, directory: int, last: str, name: str) -> None:
        os.fsync(written.file)
        try:
            os.link(
                written.name,
                last,
                src_dir_fd=self._root,
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except FileExistsError:  # another writer's; or ours, if NFS asked twice
            size = os.fstat(written.file).st_size
            whole = memoryview(read_exactly(written.file, 0, size, name)) if size else None
            _kept(directory, last, [whole] if whole else [], name)
        os.fsync(directory)


class _LocalDraft:
    """An object that is being written to a temporary file."""

    def __init__(self, store: LocalStore, written: TemporaryFile) -> None:
        self._store = store
        self._written: TemporaryFile | None = written

    def write(self, part: Part) -> None:
        """Append to the file."""
        written = self._open()
        view = memoryview(part).cast("B")
        try:
            with _reported("an object that is being written"):
                write_all(written.file, [view] if view else [])
        except StoreError:
            self.drop()
            raise

    def keep(self, name: str) -> None:
        """Give the file its name."""
        written = self._open()
        try:
            self._store.keep(written, name)
        finally:
            self.drop()

    def drop(self) -> None:
        """Remove the file."""
        if self._written is not None:
            self._written.remove()
            self._written = None

    def _open(self) -> TemporaryFile:
        if self._written is None:
            raise StoreUnavailable("a draft is over, and takes nothing more")
        return self._written


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn the operating system's errors into the contract's (rule 7)."""
    try:
        yield
    except OSError as error:
        raise _store_error(what, error) from error


def _other_owner(directory: int) -> Owner:
    """Return user and group of a directory that is not ours, else None."""
    status = os.fstat(directory)
    return None if status.st_uid == os.geteuid() else (status.st_uid, status.st_gid)


def _store_error(what: str, error: OSError) -> StoreError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(
            f"no space left for {what}",
            hint="free space where the repository lies, or raise a quota",
        )
    return StoreUnavailable(
        f"{what}: {error.strerror}", hint="see that the repository is mounted, and whose it is"
    )


def _make_durable(directory: Path) -> None:
    """Make `directory` and what is missing above it, each name synced."""
    if directory.is_dir():
        return
    _make_durable(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir(_DIRECTORY_MODE)
    above = os.open(directory.parent, _DIRECTORY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def _open_object(directory: int, last: str, name: str) -> int:
    """Open a plain file; raise FileNotFoundError where there is none."""
    file = os.open(last, _READ, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise StoreUnavailable(f"{name} is no plain file")
    return file


def _kept(directory: int, last: str, parts: Sequence[memoryview], name: str) -> bool:
    """Tell whether the object is there already, made durable; raise ObjectExists if it differs."""
    try:
        file = _open_object(directory, last, name)
    except FileNotFoundError:
        return False
    try:
        if not holds(file, parts, name):
            raise ObjectExists(f"{name} exists with other content")
        os.fsync(file)  # its writer may have died between link and fsync
        os.fsync(directory)
    finally:
        os.close(file)
    return True


def _listed(directory: int, prefix: str) -> Iterator[Listed]:
    """Yield the objects in an open directory and below it."""
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + entry.name
            if not is_name(name):
                continue
            with suppress(FileNotFoundError):  # deleted since the directory was read
                if entry.is_dir(follow_symlinks=False):
                    below = os.open(entry.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                    try:
                        yield from _listed(below, name + "/")
                    finally:
                        os.close(below)
                elif entry.is_file(follow_symlinks=False):
                    yield Listed(name, entry.stat(follow_symlinks=False).st_size)
