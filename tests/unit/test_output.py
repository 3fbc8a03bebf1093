"""What people see: whole names, whole lines, one sentence a command."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich import progress as bars
from rich.console import Console

from agent.cli import bar, output, progress, terminal
from agent.cli.main import vitrine
from agent.control.messages import Progress
from agent.errors import ConfigInvalid

NAMES = ("Müller^[Jan] [bold]x[/bold]", "[/]", "a:smile:b", "n" * 90)


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    """Return a table of NAMES on a terminal of that width."""
    console = Console(
        width=width, markup=False, emoji=False, highlight=False, soft_wrap=True, record=True
    )
    monkeypatch.setattr(terminal, "console", console)
    with console.capture() as captured:
        terminal.table(("SIZE", "NAME"), [("1 B", name) for name in NAMES], "SIZE", "NAME")
    return captured.get()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_shows_every_character_of_a_name(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Brackets are no markup, colons no emoji; what is too long goes on in the next line."""
    text = printed(monkeypatch, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    together = "".join("".join(line.split()) for line in text.splitlines())
    assert all("".join(name.split()) in together for name in NAMES)


def test_pipe_gets_whole_lines() -> None:
    """What is no terminal has no width: one row is one line."""
    assert not terminal.console.is_terminal
    with terminal.console.capture() as captured:
        terminal.table(("NAME",), [(name,) for name in NAMES], long="NAME")
    assert [line.rstrip() for line in captured.get().splitlines()][1:] == list(NAMES)


def test_each_command_says_in_one_line_what_it_does() -> None:
    """`vitrine --help` on a terminal of 80 columns cuts no sentence off."""
    helped = CliRunner().invoke(vitrine, ["--help"], terminal_width=80)
    assert helped.exit_code == 0
    assert "..." not in helped.output.partition("Commands:")[2]


@pytest.mark.parametrize("columns", [0, 40, 120])
def test_error_on_a_terminal_ends_its_lines_between_words(tmp_path: Path, columns: int) -> None:
    """In a narrow window, in a wide one, and in one that tells no width: that is 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 0, columns, 0, 0))
    command = [sys.executable, "-m", "agent.cli", "status", "--config-dir", str(tmp_path)]
    ended = subprocess.run(command, stderr=theirs, check=False)
    os.close(theirs)
    lines = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert ended.returncode == ConfigInvalid.exit_status
    assert lines[0].startswith("vitrine: ")
    longest = len(str(tmp_path / "client.toml")) + len("         ")  # one word: it is not cut
    assert all(len(line) <= max(columns or 80, longest) for line in lines)
    assert len(lines) >= 2


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 packs"), (1, "1 pack"), (2, "2 packs"), (1000, "1,000 packs")]
)
def test_one_thing_is_not_told_as_many(count: int, said: str) -> None:
    """A count takes the noun's form with it."""
    assert output.counted(count, "pack") == said


@pytest.mark.parametrize(
    ("done", "total", "unit", "said"),
    [
        (2_400_000_000, 5_000_000_000, "bytes", "2.4 GB of 5.0 GB"),
        (24_000, None, "files", "24,000 files"),
        (3, 4, "objects", "3 of 4 objects"),
    ],
)
def test_progress_says_what_is_known(done: int, total: int | None, unit: str, said: str) -> None:
    """A total that nobody knows is left out, and so is the time that remains."""
    shown = bars.Progress(bar._TimeLeft())
    shown.add_task("", total=total, completed=done, unit=unit)
    (task,) = shown.tasks
    assert str(bar._Amount().render(task)) == said
    assert (str(bar._TimeLeft().render(task)) == "") == (total is None)


@pytest.mark.parametrize("is_long", [False, True])
def test_bar_is_drawn_only_for_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    """On a terminal, for as long as the request runs; otherwise nothing is written."""
    screen = StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_AFTER_S", 0.0 if is_long else 3600.0)
    with progress.progress_bar() as show:
        show(Progress("radiology", 24_000, 0, "files"))
    assert ("radiology" in screen.getvalue()) == is_long
    assert bool(screen.getvalue()) == is_long
