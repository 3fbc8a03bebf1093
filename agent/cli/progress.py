"""How far a request has come: nothing before it takes long, then a bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.clock import SystemClock
from agent.control import messages

if TYPE_CHECKING:
    from agent.cli.bar import Bar

_AFTER_S = 1.0  # a bar that flashes by tells nothing


@contextmanager
def progress_bar() -> Iterator[Callable[[messages.Progress], None]]:
    """Show on a terminal how far a request has come, once it takes over a second; then gone."""
    clock, started = SystemClock(), SystemClock().monotonic()
    is_seen = sys.stderr.isatty()
    bar: Bar | None = None

    def show(step: messages.Progress) -> None:
        nonlocal bar
        if is_seen and clock.monotonic() - started >= _AFTER_S:
            bar = bar or _new_bar()
            bar.show(step)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def _new_bar() -> "Bar":
    from agent.cli.bar import Bar  # noqa: PLC0415 - most requests are done before rich is loaded

    return Bar()
