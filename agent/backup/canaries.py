"""Canary studies: files in a source that nobody has reason to touch, and where they lie.

The agent's state directory knows them; `vitrine canary` makes and removes them.  Whether one was
touched says the journal, that is: what the snapshot being taken holds in its place.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.backup.journal import Journal
from agent.backup.pages import Pages
from agent.errors import ConfigInvalid
from agent.model.decoding import UNDECODABLE

_FILE = "canaries.json"
_FACT = "canaries"


class Canary(msgspec.Struct, frozen=True):
    """One file of a canary study."""

    id: str  # drawn at random; all that is ever told of it
    study: str  # the same for the files that were made together
    source: bytes
    path: bytes  # below the source
    digest: bytes  # BLAKE3
    made_ns: int


class Touched(NamedTuple):
    """How many canaries were found changed or gone for the first time, of how many."""

    files: int
    of: int


class Canaries:
    """The canaries of one vault, as the file says."""

    def __init__(self, vault_state: Path) -> None:
        """Take the vault's part of the agent's state directory; the file need not exist."""
        self._path = vault_state / _FILE

    def read(self) -> tuple[Canary, ...]:
        """Return what there is; raise ConfigInvalid where the file cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Canary, ...])
        except FileNotFoundError:
            return ()
        except (OSError, *UNDECODABLE) as error:
            raise ConfigInvalid(
                f"{self._path} cannot be read, so nobody knows where the canaries are",
                hint="restore the file, or delete it and make new ones with `vitrine canary add`",
            ) from error

    @contextmanager
    def changing(self) -> Iterator[list[Canary]]:
        """Give the list to be changed, to one process at a time; it is durable afterwards.

        Raises ConfigInvalid where the agent's state is not there, or not ours to change.
        """
        try:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigInvalid(
                f"the agent's state cannot be used: {error.strerror}",
                hint="start the agent once, and run this as root or as the agent's user",
            ) from error
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            canaries = list(self.read())
            yield canaries
            self.write(canaries)
        finally:
            os.close(directory)

    def write(self, canaries: Iterable[Canary]) -> None:
        """Put these in place of what there is, durably, for the owner of the directory to read."""
        owner = self._path.parent.stat()
        temporary = self._path.with_name(f"{_FILE}.{os.urandom(4).hex()}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(msgspec.json.encode(tuple(canaries)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


class CanaryCheck:
    """Compares canaries with the journal, each until it was touched once."""

    def __init__(self, journal: Journal, pages: Pages) -> None:
        """Take the journal, which also keeps what was found."""
        self._journal = journal
        self._pages = pages

    def run(self, canaries: Iterable[Canary], sources: Mapping[bytes, int]) -> Touched:
        """Return which were touched since the run before, of those in `sources` (path: number).

        One that was never seen whole may not have been scanned yet, so it cannot be missed.
        """
        before = self._known()
        known: dict[str, bool] = {}
        touched = of = 0
        for canary in canaries:
            if canary.source not in sources:
                if canary.id in before:
                    known[canary.id] = before[canary.id]
                continue
            of += 1
            whole = self._is_whole(canary, sources[canary.source])
            if whole is None and canary.id not in before:
                continue
            known[canary.id] = bool(whole)
            touched += not whole and before.get(canary.id, True)
        if known != before:
            self._journal.note(_FACT, msgspec.msgpack.encode(known))
        return Touched(touched, of)

    def _known(self) -> dict[str, bool]:
        """Return what was seen of which: whole, or touched."""
        fact = self._journal.fact(_FACT)
        return msgspec.msgpack.decode(fact, type=dict[str, bool]) if fact else {}

    def _is_whole(self, canary: Canary, source: int) -> bool | None:
        """Tell whether a canary is as it was made; None where there is no such file."""
        parent, _, name = canary.path.rpartition(b"/")
        directory = self._journal.directory(source, parent)
        if directory is None:
            return None
        entry = self._pages.find(directory.id, [name]).get(name)
        return None if entry is None else entry.digest == canary.digest
