"""How answers look: lines, sizes and times for people, JSON for programs."""

import sys
from datetime import datetime

import click
import msgspec

from agent.clock import SystemClock, utc

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_STEP = 1000


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def say(text: str) -> None:
    """Print lines on standard output; styles of click.style are for terminals only."""
    click.echo(text)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 pack` or `2 packs`."""
    return f"{number(count)} {noun if count == 1 else plural or noun + 's'}"


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000 as disks are sold."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < _STEP:
            break
        value, unit = value / _STEP, larger
    return f"{count} B" if unit == "B" else f"{value:.{1 if value < 100 else 0}f} {unit}"


def number(count: int) -> str:
    """Return a count with separators."""
    return f"{count:,}"


def when(time_ns: int) -> str:
    """Return a time for people, in the local zone."""
    local = utc(time_ns).astimezone()
    today = utc(SystemClock().now_ns()).astimezone().date()
    if local.date() == today:
        return f"today {local:%H:%M:%S}"
    if local.year == today.year:
        return f"{local:%d %b %H:%M}"
    return f"{local:%Y-%m-%d %H:%M}"


def clock_time(time_ns: int) -> datetime:
    """Return the local time of `time_ns`."""
    return utc(time_ns).astimezone()


def ago(time_ns: int) -> str:
    """Return how long ago something was, roughly."""
    seconds = max(0, (SystemClock().now_ns() - time_ns) // 1_000_000_000)
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            count = seconds // length
            return f"{count} {unit}{'s' if unit == 'day' else ''} ago"
    return f"{seconds} s ago"
