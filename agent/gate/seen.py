"""What the gate remembers of snapshots: the end of every chain, so that going back is noticed.

The repository's storage could serve an old state of itself, and every signature would still be
right.  The gate therefore keeps, beside its users, how far each writer's chain had come.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.errors import ChainBroken, ConfigInvalid, StoreFull
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, VaultId
from agent.model.snapshot import SnapshotInfo


class _End(msgspec.Struct, frozen=True, array_like=True):
    """The last snapshot seen of one writer."""

    sequence: int
    id: str


class _Key(NamedTuple):
    vault: VaultId
    host: HostId


class SeenChains:
    """The ends of all chains that this gate has verified, on disk before they count."""

    def __init__(self, path: Path) -> None:
        """Take the file that holds them; it need not exist yet."""
        self._path = path
        self._ends: dict[str, _End] = _load(path)

    def check(self, vault: VaultId, found: Iterable[SnapshotInfo]) -> None:
        """Raise ChainBroken where a chain of `vault` ends before what was seen, or differs there.

        What is newer is remembered.  `found` is every snapshot of the vault, verified.
        """
        last: dict[str, SnapshotInfo] = {}
        ids: dict[tuple[str, int], str] = {}
        for info in found:
            key = _name(_Key(vault, info.snapshot.host))
            ids[key, info.snapshot.sequence] = info.id.hex()
            if key not in last or last[key].snapshot.sequence < info.snapshot.sequence:
                last[key] = info
        for key, end in self._ends.items():
            if key.startswith(vault.hex()) and ids.get((key, end.sequence)) != end.id:
                raise ChainBroken(
                    f"snapshot {end.sequence} of host {key[33:45]} was there and is not now, "
                    "or is another one: the repository was rolled back or replaced",
                    hint="bring the repository back from a copy; nothing is opened until then",
                )
        self._remember(last)

    def _remember(self, last: dict[str, SnapshotInfo]) -> None:
        ends = {key: _End(i.snapshot.sequence, i.id.hex()) for key, i in last.items()}
        if any(self._ends.get(key) != end for key, end in ends.items()):
            self._ends |= ends
            _save(self._path, self._ends)


def _name(key: _Key) -> str:
    return f"{key.vault.hex()}/{key.host.hex()}"


def _load(path: Path) -> dict[str, _End]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _End])
    except FileNotFoundError:
        return {}
    except (OSError, *UNDECODABLE) as error:
        raise ConfigInvalid(
            f"{path} cannot be read: without it a rolled-back repository goes unnoticed",
            hint="restore the file; or delete it knowingly, and compare the newest snapshots",
        ) from error


def _save(path: Path, ends: dict[str, _End]) -> None:
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(ends))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreFull(f"{path} cannot be written: {error.strerror}") from error
