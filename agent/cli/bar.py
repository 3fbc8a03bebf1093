"""The bar that shows how far a request has come, by rich."""

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
from rich.text import Text

from agent.cli.output import number, size
from agent.control import messages


class Bar:
    """A bar on standard error, shown until `stop`."""

    def __init__(self) -> None:
        """Show it, before anything is known."""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(),
            _TimeLeft(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def show(self, step: messages.Progress) -> None:
        """Show how far it is."""
        self._bar.update(
            self._task,
            description=step.phase,
            completed=step.done,
            total=step.total or None,
            unit=step.unit,
        )

    def stop(self) -> None:
        """Take it away."""
        self._bar.stop()


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
