"""How answers look: tables and sizes for people, JSON for programs."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

import click
import msgspec
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from agent.clock import SystemClock, utc
from agent.control import messages

_UNBOUNDED = 100_000  # columns: what reads a pipe wants whole lines
# markup is off: names in square brackets are names
console = Console(
    highlight=False,
    soft_wrap=True,
    markup=False,
    emoji=False,
    width=None if sys.stdout.isatty() else _UNBOUNDED,
)
errors = Console(stderr=True, highlight=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_STEP = 1000
_AFTER_S = 1.0  # a bar that flashes by tells nothing


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Text]], right: str = "", long: str = ""
) -> None:
    """Print a table without lines; columns named in `right` are numbers.

    The `long` column goes on in the next line where it must; nothing is cut.
    """
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        justify: Literal["right", "left"] = "right" if column in right.split() else "left"
        shown.add_column(column, justify=justify, no_wrap=column != long, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(shown)


def styled(style: str, text: str) -> Text:
    """Return text in a style, for a table or a line; brackets in it mean nothing."""
    return Text(text, style=style)


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


@contextmanager
def progress_bar() -> Iterator[Callable[[messages.Progress], None]]:
    """Show how far a request has come, once it takes over a second; gone when it is done."""
    clock, started = SystemClock(), SystemClock().monotonic()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _Amount(),
        _TimeLeft(),
        console=errors,
        transient=True,
    )
    task = bar.add_task("", total=None)

    def show(step: messages.Progress) -> None:
        if not errors.is_terminal or clock.monotonic() - started < _AFTER_S:
            return
        bar.start()
        total = step.total or None
        bar.update(task, description=step.phase, completed=step.done, total=total, unit=step.unit)

    try:
        yield show
    finally:
        if bar.live.is_started:  # else it would leave an empty line
            bar.stop()


class _Amount(ProgressColumn):
    """Bytes as sizes, everything else as counts; the total where it is known."""

    def render(self, task: Task) -> RenderableType:
        """Return the amount in the unit of the task."""
        unit = str(task.fields.get("unit", ""))
        shown = [number(int(n)) if unit != "bytes" else size(int(n)) for n in _known(task)]
        return Text(" of ".join(shown) + ("" if unit in {"", "bytes"} else f" {unit}"))


class _TimeLeft(TimeRemainingColumn):
    """How long it will take; nothing where nobody can know."""

    def render(self, task: Task) -> Text:
        """Return the time that remains."""
        return Text("") if task.total is None else super().render(task)


def _known(task: Task) -> list[float]:
    return [task.completed] if task.total is None else [task.completed, task.total]
