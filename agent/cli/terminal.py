"""What is shown in colours and columns, by rich: for commands that show more than lines of text."""

import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 100_000  # columns: what reads a pipe wants whole lines
# markup is off: names in square brackets are names
console = Console(
    highlight=False,
    soft_wrap=True,
    markup=False,
    emoji=False,
    width=None if sys.stdout.isatty() else _UNBOUNDED,
)


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
