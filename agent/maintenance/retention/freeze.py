"""What stops retention until somebody has looked: a clock that jumped, too much at once, an alarm.

A freeze is on disk until `vitrine retention thaw`; whatever causes it may be gone by then.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.errors import ConfigInvalid, StoreUnavailable
from agent.model.decoding import UNDECODABLE

MASS_SHARE = 0.2  # of all snapshots at once
MASS_COUNT = 10
SILENT_NS = 14 * 86_400 * 10**9  # no snapshot for so long: agents are silent, or the clock wrong
JUMP_NS = 3600 * 10**9  # by which the wall clock may differ from CLOCK_BOOTTIME between two runs


class Frozen(msgspec.Struct, frozen=True):
    """Why, and since when."""

    reason: str
    since_ns: int


class Circumstances(NamedTuple):
    """What is known when a run is about to remove something."""

    now_ns: int
    newest_received_ns: int
    wall_elapsed_ns: int  # since the last run; 0 at first
    boot_elapsed_ns: int | None  # the same by CLOCK_BOOTTIME; None after a boot
    snapshots: int
    to_remove: int
    confirmed: int  # how many removals an administrator has agreed to
    missing_holds: int  # that were there, and went without a release
    alarms: int  # snapshots with signs of an attack that nobody has acknowledged


def why_freeze(at: Circumstances) -> str:
    """Return the first reason to stop, or an empty text."""
    return next(_reasons(at), "")


def _reasons(at: Circumstances) -> Iterator[str]:
    if at.alarms:
        yield f"{at.alarms} snapshots show signs of an attack: `vitrine timeline`"
    if at.missing_holds:
        yield f"{at.missing_holds} holds are gone from the repository without a release"
    if at.wall_elapsed_ns < 0:
        yield "the clock went back"
    if at.boot_elapsed_ns is not None and at.wall_elapsed_ns - at.boot_elapsed_ns > JUMP_NS:
        yield "the clock jumped ahead"
    if at.newest_received_ns and at.now_ns - at.newest_received_ns > SILENT_NS:
        yield "no snapshot has come for two weeks: the agents are silent, or the clock is wrong"
    is_mass = at.to_remove > MASS_COUNT and at.to_remove > MASS_SHARE * at.snapshots
    if is_mass and at.confirmed < at.to_remove:
        yield (
            f"{at.to_remove} of {at.snapshots} snapshots would go at once: "
            f"`--confirm {at.to_remove}` if that is meant"
        )


class FreezeFile:
    """Whether a vault's retention is frozen, on disk."""

    def __init__(self, path: Path) -> None:
        """Take the file; where it is not there, nothing is frozen."""
        self._path = path

    def read(self) -> Frozen | None:
        """Return why it is frozen; an unreadable file freezes."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Frozen)
        except FileNotFoundError:
            return None
        except (OSError, *UNDECODABLE):
            return Frozen("the note of a freeze cannot be read", 0)

    def freeze(self, reason: str, now_ns: int) -> None:
        """Freeze, durably; what it was frozen for first stays."""
        if self.read() is not None:
            return
        try:
            with self._path.open("xb") as file:
                file.write(msgspec.json.encode(Frozen(reason, now_ns)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from error

    def thaw(self) -> Frozen:
        """Undo a freeze; return what it was for.  Raise ConfigInvalid where there is none."""
        frozen = self.read()
        if frozen is None:
            raise ConfigInvalid("retention of this vault is not frozen")
        self._path.unlink()
        return frozen
