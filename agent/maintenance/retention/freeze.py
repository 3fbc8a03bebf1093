"""What stops retention until somebody has looked: a clock that jumped, too much at once, an alarm.

A freeze is on disk until `vitrine retention thaw`; whatever causes it may be gone by then.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.model.decoding import UNDECODABLE
from agent.notefile import replace_durably

MASS_SHARE = 0.2  # of all snapshots at once
MASS_COUNT = 10
SILENT_NS = 14 * 86_400 * 10**9  # no snapshot for so long: agents are silent, or the clock wrong
JUMP_NS = 3600 * 10**9  # by which the wall clock may differ from CLOCK_BOOTTIME between two runs


class Frozen(msgspec.Struct, frozen=True):
    """Why, and since when."""

    reason: str
    since_ns: int
    signs: tuple[bytes, ...] = ()  # ids of snapshots that were part of the reason
    holds: tuple[bytes, ...] = ()  # names of holds that were


class Circumstances(NamedTuple):
    """What is known when a run is about to remove something."""

    now_ns: int
    newest_received_ns: int
    thawed_ns: int  # when somebody last looked
    wall_elapsed_ns: int  # since the last run; 0 at first
    boot_elapsed_ns: int | None  # the same by CLOCK_BOOTTIME; None after a boot
    snapshots: int
    to_remove: int
    confirmed: int  # how many removals an administrator has agreed to
    missing_holds: tuple[bytes, ...]  # that were there, and went without a release
    alarms: tuple[bytes, ...]  # snapshots with signs of an attack that nobody has acknowledged


def why_freeze(at: Circumstances) -> Frozen | None:
    """Return every reason to stop, with what a thaw then acknowledges; None where there is none."""
    reasons = list(_reasons(at))
    if not reasons:
        return None
    return Frozen("; ".join(reasons), at.now_ns, at.alarms, at.missing_holds)


def _reasons(at: Circumstances) -> Iterator[str]:
    if at.alarms:
        yield f"snapshots that show signs of an attack: {len(at.alarms)}, see `vitrine timeline`"
    if at.missing_holds:
        yield f"holds gone from the repository without a release: {len(at.missing_holds)}"
    if at.wall_elapsed_ns < 0:
        yield "the clock went back"
    if at.boot_elapsed_ns is not None and at.wall_elapsed_ns - at.boot_elapsed_ns > JUMP_NS:
        yield "the clock jumped ahead"
    if at.boot_elapsed_ns is None and at.wall_elapsed_ns > SILENT_NS:
        # what came meanwhile vouches for nothing: an agent on this host has the same clock
        yield "the clock went ahead by more than two weeks over a restart of this machine"
    heard_ns = max(at.newest_received_ns, at.thawed_ns)
    if at.newest_received_ns and at.now_ns - heard_ns > SILENT_NS:
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

    def freeze(self, why: Frozen) -> None:
        """Freeze, durably; what it was frozen for first stays."""
        if self.read() is not None:
            return
        replace_durably(self._path, msgspec.json.encode(why))

    def thaw(self) -> None:
        """Undo a freeze, if there is one."""
        self._path.unlink(missing_ok=True)
