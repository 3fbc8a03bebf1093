"""One run from the command line.  Of a source that rests: looked at, and found to be so.

That takes no event loop, and nothing that reads, cuts and squeezes files, which together take
longer to load than 10,000 files to look at: they are loaded by the first run that needs them.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.backup.batch import Batch
from agent.backup.relied import make_durable
from agent.backup.request import Counts, Outcome, Request
from agent.backup.steps import Begun, Steps
from agent.clock import Clock
from agent.errors import JournalError


def run_once(
    steps: Steps, clock: Clock, request: Request, on_progress: Callable[[Counts], None]
) -> Outcome:
    """Do what `VaultBackup.run` does; blocks, and ends for Ctrl-C where it is."""
    try:
        looked = _look(steps, request, on_progress)
    except JournalError as error:
        steps.mend(error)
        looked = steps.begin(request)
    if isinstance(looked, Outcome):
        return looked
    from agent.backup.run import go_on  # noqa: PLC0415 - as the module's docstring says

    return go_on(steps, clock, looked, on_progress)


def _look(steps: Steps, request: Request, on_progress: Callable[[Counts], None]) -> Outcome | Begun:
    """Return what a run came to, or the run where there is something to read or to store."""
    begun = None
    try:
        begun = steps.begin(request)
        looked = _scanned(begun, on_progress)
        if looked.batches is not None or begun.journal.is_dirty():
            return begun._replace(counts=looked.counts, batches=looked.batches or iter(()))
        make_durable(begun.journal, begun.writer)
        outcome = steps.conclude(begun, looked.counts)
    except BaseException:
        steps.abandon()
        if begun is not None:
            steps.end(begun)
        raise
    steps.end(begun)
    return outcome


class _Looked(NamedTuple):
    """How far a scan came, and what there is to read from there on; None: nothing at all."""

    counts: Counts
    batches: Iterator[Batch] | None


def _scanned(begun: Begun, on_progress: Callable[[Counts], None]) -> _Looked:
    """Scan until there is something to read."""
    counts = Counts()
    for batch in begun.batches:
        if batch.files:
            return _Looked(counts, itertools.chain([batch], begun.batches))
        counts = counts._replace(looked_at=counts.looked_at + batch.looked_at)
        on_progress(counts)
    return _Looked(counts, None)
