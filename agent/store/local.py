"""A store in a directory: an object is a file, whole by link(2) and durable by fsync(2).

A put writes `.tmp-…` in the root, syncs it, links it to its name (which fails if that is taken),
syncs the directory and removes the temporary name.  The writer holds flock(2) on the temporary
file; whoever opens the store removes those that nobody holds.  Where a shared file system keeps
locks to one host, that may take a living writer's file: its put then raises, and stores nothing.

No link is followed below the root, which itself may be one.  Directories are made with mode 0750
and files with 0640, less the umask: with a set-group-id root the repository's readers are a group,
and with umask 077 there are none.  What root or maintenance makes in another's repository belongs
to that one, where the kernel lets us give it away: an agent must be able to go on writing there.
The file system must have hard links: not FAT or exFAT.
"""

import errno
import fcntl
import os
import secrets
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
from agent.store.base import Listed, Part, checked_name, checked_prefix, checked_range, is_name
from agent.store.exact import holds, read_exactly, write_all

_TEMPORARY = ".tmp-"  # the dot keeps it out of every listing: no name starts with one
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO in an object's place must not hang us
_SWEEP = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # NFS locks only what is open for writing
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640


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
            self._sweep()

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
            if not _kept(directory, last, views, name):
                self._write(directory, last, views, name)

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
            self._give_away(segment, above)
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

    def _write(self, directory: int, last: str, parts: Sequence[memoryview], name: str) -> None:
        """Put a new object: content before name, name before return."""
        with self._temporary() as (temporary, file):
            write_all(file, parts)
            os.fsync(file)
            try:
                os.link(
                    temporary,
                    last,
                    src_dir_fd=self._root,
                    dst_dir_fd=directory,
                    follow_symlinks=False,
                )
            except FileExistsError:  # another writer's; or ours, if NFS asked twice
                _kept(directory, last, parts, name)
            os.fsync(directory)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[str, int]]:
        """Make a locked file in the root for writing; its name is gone afterwards."""
        name, file = self._new_temporary()
        try:
            yield name, file
        finally:
            with suppress(OSError):  # what happened to the object matters more; a sweep removes it
                os.unlink(name, dir_fd=self._root)
            os.close(file)

    def _new_temporary(self) -> tuple[str, int]:
        while True:
            name = _TEMPORARY + secrets.token_hex(16)
            file = os.open(name, _CREATE, _FILE_MODE, dir_fd=self._root)
            self._give_away(name, self._root)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a sweep was faster, and removes it
                os.close(file)
                continue
            except OSError:  # no locks on this file system, so no sweep gets one either
                return name, file
            if os.fstat(file).st_nlink:
                return name, file
            os.close(file)  # a sweep has been here

    def _give_away(self, name: str, directory: int) -> None:
        """Have what we made in another's repository belong to its owner, if we may."""
        if self._owner is not None:
            uid, gid = self._owner
            with suppress(PermissionError):  # without CAP_CHOWN: then the group has to do
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    def _sweep(self) -> None:
        """Remove temporary files that no living writer holds."""
        with os.scandir(self._root) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_TEMPORARY)]
        for name in names:
            with suppress(OSError):  # held, gone, another user's, or all of it is read-only
                file = os.open(name, _SWEEP, dir_fd=self._root)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=self._root)
                finally:
                    os.close(file)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn the operating system's errors into the contract's (rule 7)."""
    try:
        yield
    except OSError as error:
        raise _store_error(what, error) from error


def _other_owner(directory: int) -> tuple[int, int] | None:
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
