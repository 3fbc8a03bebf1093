"""The local copies of a vault's index objects: opened once, then mapped.

The copies hold what the index key reveals, ids and places, and are kept mode 0600.  A lost or
deleted cache is filled again; it is never the only copy of anything.
"""

import os
import tempfile
from pathlib import Path

from agent.crypto.box import IndexKey
from agent.crypto.naming import object_name
from agent.errors import ObjectDamaged, StoreUnavailable
from agent.model.ids import IndexId, VaultId
from agent.repository import layout
from agent.repository.index import Index, IndexFile
from agent.store.base import Store

_SUFFIX = ".idx"
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
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def refresh(self) -> Index:
        """Fetch what is new, forget what is gone, and return the index as it is now."""
        names = {listed.name for listed in self._store.list(layout.indexes(self._vault))}
        present = {name.rsplit("/", 1)[1]: name for name in names}
        self._forget(set(present))
        for hexadecimal, name in present.items():
            if hexadecimal not in self._open:
                self._open[hexadecimal] = self._file(hexadecimal, name)
        return Index(self._live())

    def add(self, id_: IndexId, plain: bytes) -> Index:
        """Take in an index object that the caller has just put, without fetching it."""
        self._write(id_.hex(), plain)
        self._open[id_.hex()] = self._mapped(id_.hex())
        return Index(self._live())

    def descriptors(self) -> list[int]:
        """Return open descriptors of the live files, for another process; the caller closes."""
        live = {file.name for file in self._live()}
        return [os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC) for name in sorted(live)]

    def _live(self) -> list[IndexFile]:
        superseded = {id_.hex() for file in self._open.values() for id_ in file.supersedes}
        return [file for name, file in self._open.items() if name not in superseded]

    def _file(self, hexadecimal: str, name: str) -> IndexFile:
        try:
            return self._mapped(hexadecimal)
        except (FileNotFoundError, ObjectDamaged):
            self._write(hexadecimal, open_index(self._store.get(name), self._key, name))
            return self._mapped(hexadecimal)

    def _mapped(self, hexadecimal: str) -> IndexFile:
        descriptor = os.open(self._path(hexadecimal), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return IndexFile.map(descriptor, hexadecimal)
        finally:
            os.close(descriptor)

    def _write(self, hexadecimal: str, plain: bytes) -> None:
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._directory)  # mode 0600
            with os.fdopen(descriptor, "wb") as file:
                file.write(plain)
                file.flush()
                os.fsync(file.fileno())  # a file of zeros with the right length would pass
            Path(temporary).replace(self._path(hexadecimal))
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write to the index cache {self._directory}: {error.strerror}",
                hint="free space there; the cache can be deleted at any time",
            ) from error

    def _forget(self, present: set[str]) -> None:
        for hexadecimal in [name for name in self._open if name not in present]:
            del self._open[hexadecimal]
        for path in self._directory.glob("*" + _SUFFIX):
            if path.stem not in present:
                path.unlink(missing_ok=True)

    def _path(self, hexadecimal: str) -> Path:
        return self._directory / (hexadecimal + _SUFFIX)


def seal_index(plain: bytes, key: IndexKey) -> tuple[IndexId, bytes]:
    """Return the id and bytes of an index object."""
    box = key.seal(plain, _CONTEXT)
    return IndexId(object_name(box)), box


def open_index(box: bytes, key: IndexKey, name: str) -> bytes:
    """Return an index object's plaintext; raise ObjectDamaged naming it."""
    if object_name(box).hex() != name.rsplit("/", 1)[1]:
        raise ObjectDamaged(f"{name} is damaged: its bytes do not match its name")
    return key.open(box, _CONTEXT, name)
