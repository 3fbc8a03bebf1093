"""A source that never holds still, whose files tell by themselves whether they were read whole.

Every step leaves, between any two system calls, nothing but whole files.  So a copy that is not
whole was torn by its reader, who must have said so.  Each file's name begins with how it changes:

- `appended`: a chain of records, each with the hash of all before; records are added and cut off;
- `rewritten`: one version number all over, written over in place by one write;
- `replaced`, `new`: a hash and what it is of, made beside and renamed into place;
- `swapped`: now such a file or directory, now a symbolic link to what lies outside the source.
"""

import hashlib
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

RECORD = 4096
PIECE = 16 * 1024
VERSIONS = 8 * 1024  # of 8 bytes
OUTSIDE = b"outside the source: nobody asked for this"
_DIGEST = 32


def is_whole(name: bytes, data: bytes) -> bool:
    """Tell whether a file's bytes are a state that it was in; a file just made is empty."""
    if name.startswith(b"appended"):
        return data == b"".join(_records(data))
    if name.startswith(b"rewritten"):
        return not data or data == data[:8] * VERSIONS
    if name.startswith((b"replaced", b"new", b"swapped")):
        return not data or data[:_DIGEST] == _hash(data[_DIGEST:])
    return OUTSIDE not in data


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _records(data: bytes) -> list[bytes]:
    """Return the records that `data` should consist of."""
    above, found = bytes(_DIGEST), []
    for at in range(0, len(data), RECORD):
        payload = data[at + _DIGEST : at + RECORD].ljust(RECORD - _DIGEST, b"\0")
        above = _hash(above + payload)
        found.append(above + payload)
    return found


class MovingSource:
    """Changes a directory, a step at a time."""

    def __init__(self, root: Path, outside: Path, chance: random.Random) -> None:
        """Take the directory, one outside it to point at, and what decides."""
        self._root = root
        self._chance = chance
        self._outside = outside
        outside.mkdir(exist_ok=True)
        (outside / "secret").write_bytes(OUTSIDE)
        self._made = 0
        for number in range(4):
            (root / f"d{number}").mkdir(exist_ok=True)
        self.steps = 0

    def step(self) -> None:
        """Change something."""
        kinds = (
            self._append, self._truncate, self._rewrite, self._replace, self._replace,
            self._rename_storm, self._swap_file, self._swap_directory, self._delete, self._study,
        )  # fmt: skip
        self._chance.choice(kinds)()
        self.steps += 1

    def disturb(self, path: Path) -> None:
        """Change this very file, as its name allows."""
        if path.name.startswith("appended"):
            self._chance.choice((self._append, self._truncate))(path)
        elif path.name.startswith("rewritten"):
            self._rewrite(path)
        elif path.name.startswith(("replaced", "swapped")):
            self._fresh().rename(path)

    def _at(self, kind: str) -> Path:
        return self._root / f"d{self._chance.randrange(4)}" / f"{kind}{self._chance.randrange(4)}"

    def _append(self, given: Path | None = None) -> None:
        path = given or self._at("appended")
        data = path.read_bytes() if path.exists() else b""
        above = data[-RECORD:][:_DIGEST] if data else bytes(_DIGEST)
        added = []
        for _ in range(self._chance.randrange(1, 12)):
            payload = self._chance.randbytes(RECORD - _DIGEST)
            above = _hash(above + payload)
            added.append(above + payload)
        self._write(path, b"".join(added), os.O_APPEND)

    def _truncate(self, given: Path | None = None) -> None:
        path = given or self._at("appended")
        if path.exists():
            os.truncate(path, self._chance.randint(0, path.stat().st_size // RECORD) * RECORD)

    def _rewrite(self, given: Path | None = None) -> None:
        version = self._chance.randbytes(8)
        self._write(given or self._at("rewritten"), version * VERSIONS, 0)

    def _replace(self) -> None:
        self._fresh().rename(self._at("replaced"))

    def _rename_storm(self) -> None:
        first, second = self._chance.sample(range(4), 2)
        aside = self._root / "aside"
        (self._root / f"d{first}").rename(aside)
        (self._root / f"d{second}").rename(self._root / f"d{first}")
        aside.rename(self._root / f"d{second}")

    def _swap_file(self) -> None:
        path = self._at("swapped")
        made = self._fresh()
        if not path.is_symlink():
            made.unlink()
            made.symlink_to(self._outside / "secret")
        made.rename(path)

    def _swap_directory(self) -> None:
        path = self._root / "swapped-directory"
        if path.is_symlink():
            path.unlink()
            path.mkdir()
            self._fresh().rename(path / "replaced")
        else:
            shutil.rmtree(path, ignore_errors=True)
            path.symlink_to(self._outside)

    def _delete(self) -> None:
        self._at(self._chance.choice(("appended", "rewritten", "replaced"))).unlink(missing_ok=True)

    def _study(self) -> None:
        study = self._root / f"study{self._chance.randrange(12)}"
        shutil.rmtree(study, ignore_errors=True)
        study.mkdir()
        for number in range(self._chance.randrange(30)):
            self._fresh().rename(study / f"replaced{number}")

    def _fresh(self) -> Path:
        """Make a file beside, to be renamed."""
        data = self._chance.randbytes(self._chance.choice((10, 3_000, 200_000)))
        self._made += 1
        path = self._root / f"new{self._made}"
        self._write(path, _hash(data) + data, 0)
        return path

    def _write(self, path: Path, data: bytes, flags: int) -> None:
        """Write by one system call: between any two a file is whole."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            assert os.write(file, data) == len(data)
        finally:
            os.close(file)


class RestlessOs:
    """The module `os` for a reader whose files change between two of its system calls.

    A read returns less than was asked for, as the kernel's may: a file takes many.
    """

    def __init__(self, moving: MovingSource, chance: random.Random, likely: float) -> None:
        """Take what changes the file that is read, and how likely it does before each call."""
        self._moving = moving
        self._chance = chance
        self._likely = likely
        self._lock = threading.Lock()
        self.disturbed = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever `os` has
        """Return what is not disturbed as it is."""
        return getattr(os, name)

    def preadv(self, file: int, buffers: list[memoryview], offset: int) -> int:
        """Read a little, perhaps after a change."""
        self._perhaps(file)
        return os.preadv(file, [buffers[0][:PIECE]], offset)

    def fstat(self, file: int) -> os.stat_result:
        """Look, perhaps after a change."""
        self._perhaps(file)
        return os.fstat(file)

    def _perhaps(self, file: int) -> None:
        with self._lock:
            path = Path(os.readlink(f"/proc/self/fd/{file}"))
            if path.exists() and self._chance.random() < self._likely:
                self._moving.disturb(path)
                self.disturbed += 1
