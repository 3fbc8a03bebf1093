"""`vitrine timeline`: what happened to a vault's files, and when an attack began.  No names."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from agent.cli.output import clock_time, json_option, number, print_json, size, when
from agent.cli.place import ask_gate, config_dir_option
from agent.cli.terminal import console, styled, table
from agent.control.gate_messages import AskTimeline, Attack, Timeline, TimelinePoint
from agent.model.ids import SHORT_HEX

_WIDTH = 10  # of a bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLUMNS = ("TAKEN", "SNAPSHOT", "FILES", "ADDED", "CHANGED", "REMOVED", "NEW DATA", "TOUCHED",
            "SIGNS")  # fmt: skip
_UNITS = ("snapshot", "hour", "day", "month")


@click.command()
@click.argument("vault", default="")
@click.option("--by", type=click.Choice(_UNITS), help="Fold; by default as far as needed.")
@json_option
@config_dir_option
def timeline(vault: str, by: str | None, as_json: bool, config_dir: Path) -> None:
    """Show what happened to the files, run by run.

    Of VAULT, or of all you have a right on.  Signs of an attack stand out, with when it began and
    the last clean snapshot before it.
    """
    answer = ask_gate(config_dir, AskTimeline(vault, by or ""), Timeline)
    if as_json:
        print_json(answer)
        return
    if not answer.points:
        console.print("No snapshot yet.")
        return
    _show(answer)
    for attack in answer.attacks:
        _tell(attack)
    if not answer.attacks:
        console.print(styled("green", "No sign of an attack."))


def _show(answer: Timeline) -> None:
    several = len({point.vault for point in answer.points}) > 1
    hosts = len({(point.vault, point.host) for point in answer.points}) > 1
    extra = (*(["VAULT"] if several else []), *(["HOST"] if hosts else []))
    rows = []
    for point in answer.points:
        where = (*([point.vault] if several else []), *([point.host[:8]] if hosts else []))
        rows.append((*_row(point, answer.by), *where))
    if answer.older:
        console.print(f"… {number(answer.older)} older ones: --by day")
    table((*_COLUMNS, *extra), rows, right="FILES ADDED CHANGED REMOVED NEW DATA", long="SIGNS")


def _row(point: TimelinePoint, by: str) -> tuple[str | Text, ...]:
    style = "bold red" if point.signs else "green" if point.mark == "last clean" else ""
    one = point.snapshots == 1
    counts = (point.added, point.changed, point.removed)
    return (
        styled(style, when(point.taken_ns) if one else _stretch(point, by)),
        styled(style, point.id[:SHORT_HEX] if one else f"{number(point.snapshots)} snapshots"),
        number(point.files),
        *(_count(count) if point.counted else "?" for count in counts),
        size(point.new_bytes) if point.counted else "?",
        _bar(point),
        _signs(point),
    )


def _stretch(point: TimelinePoint, by: str) -> str:
    """Return the hour, day or month that snapshots were folded into."""
    local = clock_time(point.taken_ns)
    if by == "month":
        return f"{local:%b %Y}"
    return f"{local:%d %b %Y}" if by == "day" else f"{local:%d %b %H}h"


def _count(count: int) -> str:
    return number(count) if count else "·"


def _bar(point: TimelinePoint) -> Text:
    """Return a bar of the share of the files before that were changed or removed."""
    touched = point.changed + point.removed
    before = max(point.files - point.added + point.removed, point.files, 1)
    if not (touched and point.counted):
        return Text("")
    eighths = max(1, min(_WIDTH * 8, round(touched / before * _WIDTH * 8)))
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return Text.assemble(
        (f"{bar:<{_WIDTH}}", "red" if point.signs else "cyan"), f" {_percent(touched / before)}"
    )


def _percent(share: float) -> str:
    return f"{min(share, 1):.0%}" if share >= 0.01 else "<1%"


def _signs(point: TimelinePoint) -> Text:
    shown = [f"{s.kind} {number(s.count)}" + (f" of {number(s.of)}" if s.of else "")
             for s in point.signs]  # fmt: skip
    if point.mark == "began" and not shown:
        return styled("red", "began here")
    if point.mark == "last clean":
        return styled("bold green", "last clean")
    return styled("bold red", ", ".join(shown))


def _tell(attack: Attack) -> None:
    """Say when it began and what to do next."""
    console.print()
    console.print(
        styled("bold red", f"Signs of an attack on {attack.vault}, since {when(attack.began_ns)}"),
        f"(snapshot {attack.began[:SHORT_HEX]}).",
    )
    if not attack.last_clean:
        console.print("No snapshot before it is left.")
        return
    clean = attack.last_clean[:SHORT_HEX]
    console.print(
        styled("green", f"Last clean snapshot: {clean}, {when(attack.last_clean_ns)}."),
        "Stop what writes there; then:",
    )
    _steps(
        (f"vitrine unlock {attack.vault} --at {clean}", "look at it"),
        (f"vitrine restore {attack.vault} --at {clean} --target DIR", "bring it back"),
    )


def _steps(*steps: Sequence[str]) -> None:
    width = max(len(command) for command, _ in steps)
    for command, what in steps:
        console.print(f"  {command:<{width}}   {what}")
