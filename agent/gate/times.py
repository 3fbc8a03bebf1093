"""What people write for a moment or a snapshot, as a value: `yesterday 14:00`, `3 hours ago`.

The answer to "as of when?" is the newest snapshot not after an instant.  So a date alone means
its end, and of two readings of a local time (the night the clocks go back) the later one counts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from agent.errors import ConfigInvalid

EXAMPLES: Final = "latest, yesterday 14:00, 2026-11-22, 2026-11-22 14:00, 3 hours ago, 9f3c21"
MIN_PREFIX: Final = 4
MAX_CHARACTERS: Final = 64  # a whole snapshot id
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CLOCK: Final = r"(?P<clock>\d{1,2}:\d{2}(?::\d{2})?)"
_PREFIX: Final = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_TIME: Final = re.compile(_CLOCK, re.ASCII)
_AGO: Final = re.compile(
    r"(?P<count>\d{1,6}) (?P<unit>second|minute|hour|day|week)s? ago", re.ASCII
)
_DAY: Final = re.compile(rf"(?P<day>today|yesterday|\d{{4}}-\d\d-\d\d)(?:[ t]{_CLOCK})?", re.ASCII)
_ZONED: Final = re.compile(
    r"\d{4}-\d\d-\d\d[ t]\d\d:\d\d(:\d\d([.,]\d{1,9})?)? ?(z|[+-]\d\d(:?\d\d)?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest snapshot there is, and those that come."""


@dataclass(frozen=True, slots=True)
class Instant:
    """The newest snapshot taken at `time_ns` or before."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """The snapshot whose id starts with these hexadecimal digits, if only one does."""

    digits: str


When = Latest | Instant | Prefix


def parse_when(text: str, now_ns: int, zone: tzinfo | None = None) -> When:
    """Return what `text` means at `now_ns`, in `zone` (None: the machine's own).

    Raises ConfigInvalid, with examples, for what is none of these: nothing or `latest`; `now`;
    `14:00`, `today 9:30`, `yesterday`; `2026-11-22`, `2026-11-22 14:00:05`; ISO 8601 with a zone;
    `3 hours ago`; four or more hexadecimal digits.
    """
    if len(text) > MAX_CHARACTERS:
        raise _refused()
    said = " ".join(text.lower().split())
    if said in {"", "latest"}:
        return Latest()
    if said == "now":
        return Instant(now_ns)
    if _PREFIX.fullmatch(said):
        return Prefix(said)
    local_now = (_EPOCH + timedelta(microseconds=now_ns // 1000)).astimezone(zone)
    try:
        instant = _instant(said, local_now, zone)
    except (ValueError, OverflowError):  # the 31st of February, 25:00, a year beyond 9999
        instant = None
    if instant is None:
        raise _refused()
    return Instant(instant)


def _refused() -> ConfigInvalid:
    return ConfigInvalid("that is no time and no snapshot", hint=f"write one of: {EXAMPLES}")


def _instant(said: str, local_now: datetime, zone: tzinfo | None) -> int | None:
    readers: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], int]], ...] = (
        (_ZONED, lambda match: _ns(datetime.fromisoformat(_iso(match.group())))),
        (_DAY, lambda match: _of_day(match, local_now.date(), zone)),
        (_TIME, lambda match: _of_clock(match, local_now.date(), zone)),
        (_AGO, lambda match: _ago(match, local_now, zone)),
    )
    for pattern, read in readers:
        if match := pattern.fullmatch(said):
            return read(match)
    return None


def _iso(said: str) -> str:
    """Return ISO 8601 as the library reads it: no space before the zone."""
    return re.sub(r" (?=[z+-])", "", said).upper()


def _of_day(match: re.Match[str], today: date, zone: tzinfo | None) -> int:
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    day = named.get(match["day"]) or date.fromisoformat(match["day"])
    if match["clock"] is None:
        return _local(day + timedelta(days=1), time(), zone) - 1
    return _of_clock(match, day, zone)


def _of_clock(match: re.Match[str], day: date, zone: tzinfo | None) -> int:
    hour, minute, second = (int(part) for part in f"{match['clock']}:0".split(":")[:3])
    return _local(day, time(hour, minute, second), zone)


def _ago(match: re.Match[str], local_now: datetime, zone: tzinfo | None) -> int:
    """Hours are hours; a day is the same time on another day, whatever the clocks did between."""
    count, unit = int(match["count"]), match["unit"]
    if unit in {"day", "week"}:
        day = local_now.date() - timedelta(**{f"{unit}s": count})
        return _local(day, local_now.time(), zone)
    return _ns(local_now.astimezone(UTC) - timedelta(**{f"{unit}s": count}))


def _local(day: date, clock: time, zone: tzinfo | None) -> int:
    """Return the later reading of a local time, in nanoseconds since 1970."""
    naive = datetime.combine(day, clock.replace(fold=0))
    return max(_ns(naive.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))


def _ns(moment: datetime) -> int:
    nanoseconds = (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND * 1000
    if nanoseconds < 0:
        raise ValueError("before 1970")
    return nanoseconds
