"""How much time has passed since the last run, as far as this machine's clocks agree.

The wall clock can be set ahead by whoever controls the time servers; CLOCK_BOOTTIME cannot.  Within
one boot the smaller of the two counts; after a boot the wall clock is all there is, and callers
bound what they believe of it.
"""

from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.model.decoding import UNDECODABLE
from agent.notefile import replace_durably

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_S = 10**9


class _Noted(msgspec.Struct, frozen=True):
    """Both clocks at the last run."""

    boot: str
    boottime_s: float
    wall_ns: int


def elapsed_ns(path: Path, clock: Clock) -> int:
    """Return the believed time since the clocks were last noted at `path`; 0 at first.

    Negative where the wall clock went back.
    """
    wall, boot = wall_elapsed_ns(path, clock), boot_elapsed_ns(path, clock)
    return wall if boot is None else min(wall, boot)


def wall_elapsed_ns(path: Path, clock: Clock) -> int:
    """Return the time since the last note by the wall clock; 0 where there is none."""
    noted = _noted(path)
    return 0 if noted is None else clock.now_ns() - noted.wall_ns


def boot_elapsed_ns(path: Path, clock: Clock) -> int | None:
    """Return the same by CLOCK_BOOTTIME; None after a boot, or where there is no note."""
    noted = _noted(path)
    if noted is None or noted.boot != _boot():
        return None
    return int((clock.monotonic() - noted.boottime_s) * _S)


def _noted(path: Path) -> _Noted | None:
    """Return the note, or None where there is none that can be read: then no time has passed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Noted)
    except (OSError, *UNDECODABLE):
        return None


def note_clocks(path: Path, clock: Clock) -> None:
    """Note both clocks, durably."""
    noted = _Noted(_boot(), clock.monotonic(), clock.now_ns())
    replace_durably(path, msgspec.json.encode(noted))


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
