"""The local copies of a vault's index objects: opened once, then mapped.

The copies hold what the index key reveals, ids and places, and are kept mode 0600.  A lost or
deleted cache is filled again; it is never the only copy of anything.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, ObjectMissing, StoreUnavailable
from agent.model.ids import IndexId, VaultId
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.index import Index
from agent.repository.indexfile import IndexFile
from agent.store.base import Store

_log = logging.getLogger(__name__)

MAX_INDEX_BYTES = 256 * 1024 * 1024  # ten times what a writer merges to; a lying one costs no more
_SUFFIX = ".idx"
_LOOKS = 8  # at a listing that the pruner changes meanwhile; it does so a few times a run
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_UNFINISHED = "new-"  # a copy whose writing was interrupted
_CONTEXT = b"vitrine index\0"


class IndexCache:
    """Keeps a directory of opened index objects in step with the repository."""

    def __init__(self, directory: Path, store: Store, vault: VaultId, key: IndexKey) -> None:
        """Take the directory that this cache alone uses; it is made if missing."""
        self._directory = directory
        self._store = store
        self._vault = vault
        self._key = key
        self._open: dict[str, IndexFile] = {}
        with self._local_errors():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in directory.glob(_UNFINISHED + "*"):
                path.unlink(missing_ok=True)

    def refresh(self) -> Index:
        """Fetch what is new, forget what is gone, and return the index as it is now.

        A damaged index object is logged and left out: what it lists is then in no index, which
        a reader reports and a writer repairs from the packs (VaultWriter.adopt_orphans).
        """
        for look in range(1, _LOOKS + 1):
            try:
                live = self._fetch_live(is_last_look=look == _LOOKS)
            except ObjectMissing:
                _log.info("an index object was replaced meanwhile: its successor is looked for")
                continue
            self._keep_only(live)
            break
        return Index(self._open.values())

    def _fetch_live(self, *, is_last_look: bool) -> set[str]:
        """Open the live files; raise ObjectMissing where a listed one is gone by now.

        At the last look that one is left out.
        """
        # Largest first: what supersedes is larger than what it supersedes, which then needs
        # neither fetching nor a descriptor, however long the pruner has not come.
        found = sorted(self._store.list(layout.indexes(self._vault)), key=lambda o: -o.size)
        present: set[str] = set()
        superseded: set[str] = set()
        for listed in found:
            id_ = layout.index_id(listed.name)
            if id_ is None or id_.hex() in superseded:
                continue
            try:
                file = self._open.get(id_.hex()) or self._readable(id_.hex(), listed.name)
            except ObjectMissing:
                if not is_last_look:
                    raise
                continue
            if file is not None:
                self._open[file.name] = file
                present.add(file.name)
                superseded.update(old.hex() for old in file.supersedes)
        return present - superseded

    def add(self, id_: IndexId, plain: bytes) -> Index:
        """Take in an index object that the caller has just put, without fetching it."""
        self._write(id_.hex(), plain)
        file = self._open[id_.hex()] = self._mapped(id_.hex())
        self._keep_only(set(self._open) - {old.hex() for old in file.supersedes})
        return Index(self._open.values())

    def descriptors(self) -> list[int]:
        """Return open descriptors of the live files, for another process; the caller closes."""
        opened: list[int] = []
        try:
            with self._local_errors():
                opened.extend(_open_read(self._path(name)) for name in sorted(self._open))
        except StoreUnavailable:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened

    def _readable(self, hexadecimal: str, name: str) -> IndexFile | None:
        """Return the file, fetched if need be; None where the object is damaged."""
        try:
            if self._path(hexadecimal).exists():
                return self._mapped(hexadecimal)
        except ObjectDamaged:
            _log.info("the local copy of %s is damaged and fetched again", name)
        try:
            box = get_bounded(self._store, name, MAX_INDEX_BYTES)
            self._write(hexadecimal, open_index(box, self._key, name))
            return self._mapped(hexadecimal)
        except ObjectDamaged as error:
            _log.warning("%s is left out: %s", name, error)
        return None

    def _mapped(self, hexadecimal: str) -> IndexFile:
        with self._local_errors():
            descriptor = _open_read(self._path(hexadecimal))
            try:
                return IndexFile.map(descriptor, hexadecimal)
            finally:
                os.close(descriptor)

    def _write(self, hexadecimal: str, plain: bytes) -> None:
        with self._local_errors():
            temporary = self._directory / f"{_UNFINISHED}{os.urandom(8).hex()}"
            descriptor = os.open(temporary, _NEW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(plain)
                    file.flush()
                    os.fsync(file.fileno())  # a file of zeros with the right length would pass
                temporary.replace(self._path(hexadecimal))
            finally:
                temporary.unlink(missing_ok=True)

    def _keep_only(self, live: set[str]) -> None:
        for hexadecimal in [name for name in self._open if name not in live]:
            del self._open[hexadecimal]
        with self._local_errors():
            for path in self._directory.glob("*" + _SUFFIX):
                if path.stem not in live:
                    path.unlink(missing_ok=True)

    def _path(self, hexadecimal: str) -> Path:
        return self._directory / (hexadecimal + _SUFFIX)

    @contextmanager
    def _local_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"cannot use the index cache {self._directory}: {error.strerror}",
                hint="free space there; the cache can be deleted at any time",
            ) from error


def seal_index(plain: bytes, key: IndexKey) -> tuple[IndexId, bytes]:
    """Return the id and bytes of an index object."""
    box = key.seal(plain, _CONTEXT)
    return IndexId(object_name(box)), box


def open_index(box: bytes, key: IndexKey, name: str) -> bytes:
    """Return an index object's plaintext; raise ObjectDamaged naming it."""
    if object_name(box).hex() != name.rsplit("/", 1)[1]:
        raise ObjectDamaged(f"{name} is damaged: its bytes do not match its name")
    return key.open(box, _CONTEXT, name)


def _open_read(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
