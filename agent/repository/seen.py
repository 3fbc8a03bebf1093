"""What readers remember of snapshots: the end of every chain, so that going back is noticed.

The repository's storage could serve an old state of itself, and every signature would still be
right.  Gate and maintenance therefore each keep, in their own state, how far each chain had come.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.errors import ChainBroken, ConfigInvalid, StoreFull, StoreUnavailable
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, VaultId
from agent.model.snapshot import SnapshotInfo
from agent.notefile import replace_durably
from agent.repository.removals import NO_REMOVALS, Removals

_REMOVALS = "/removals"  # after the vault, in place of a host


class _End(msgspec.Struct, frozen=True, array_like=True):
    """The last snapshot seen of one writer, or the last removal record of a vault."""

    sequence: int
    id: str


class _Key(NamedTuple):
    vault: VaultId
    host: HostId


class SeenChains:
    """The ends of all chains that this reader has verified, on disk before they count."""

    def __init__(self, path: Path) -> None:
        """Take the file that holds them; it need not exist yet."""
        self._path = path
        self._ends: dict[str, _End] = _load(path)

    def check(
        self, vault: VaultId, found: Iterable[SnapshotInfo], removals: Removals = NO_REMOVALS
    ) -> None:
        """Raise ChainBroken where a chain of `vault` ends before what was seen, or differs there.

        What is newer is remembered.  `found` is every snapshot of the vault that `removals` do
        not name, all verified.
        """
        last: dict[str, SnapshotInfo] = {}
        ids = {
            (_name(_Key(vault, one.host)), one.sequence): one.id.hex()
            for one in removals.removed.values()
        }
        for info in found:
            key = _name(_Key(vault, info.snapshot.host))
            ids[key, info.snapshot.sequence] = info.id.hex()
            if key not in last or last[key].snapshot.sequence < info.snapshot.sequence:
                last[key] = info
        records = vault.hex() + _REMOVALS
        ids |= {(records, number): id_.hex() for number, id_ in enumerate(removals.ids, 1)}
        for key, end in self._ends.items():
            if key.startswith(vault.hex()) and ids.get((key, end.sequence)) != end.id:
                raise _rolled_back(key, end)
        ends = {key: _End(i.snapshot.sequence, i.id.hex()) for key, i in last.items()}
        if removals.ids:
            ends[records] = _End(len(removals.ids), removals.tip.hex())
        self._remember(ends)

    def _remember(self, ends: dict[str, _End]) -> None:
        if any(self._ends.get(key) != end for key, end in ends.items()):
            self._ends |= ends
            _save(self._path, self._ends)


def _rolled_back(key: str, end: _End) -> ChainBroken:
    is_record = key.endswith(_REMOVALS)
    what = "removal record" if is_record else "snapshot"
    whose = "" if is_record else f" of host {key[33:45]}"
    return ChainBroken(
        f"{what} {end.sequence}{whose} was there and is not now, "
        "or is another one: the repository was rolled back or replaced",
        hint="bring the repository back from a copy; nothing is opened or deleted until then",
    )


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
    try:
        replace_durably(path, msgspec.json.encode(ends))
    except StoreUnavailable as error:
        raise StoreFull(error.message) from error
