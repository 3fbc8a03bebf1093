"""One run: from what may have changed to a snapshot, or to the knowledge that nothing did.

What blocks is done in threads: the steps before and after (agent.backup.steps), and what lies
between, reading files and making trees anew (agent.backup.pipeline, agent.backup.trees).
"""

from collections.abc import Callable

import trio

from agent.backup.pipeline import Pipeline
from agent.backup.request import Counts, Outcome, Request
from agent.backup.steps import Begun, Steps
from agent.backup.trees import Trees
from agent.clock import Clock
from agent.errors import JournalError, VitrineError

Told = Callable[[Counts], None]


class VaultBackup:
    """Takes snapshots of one vault's sources, one run at a time."""

    def __init__(self, steps: Steps, clock: Clock) -> None:
        """Take the steps of the vault's runs."""
        self._steps = steps
        self._clock = clock

    def close(self) -> None:
        """Close the journal."""
        self._steps.close()

    async def run(
        self, request: Request, on_progress: Told = lambda _: None, begun: Begun | None = None
    ) -> Outcome:
        """Look, store what is new, and take a snapshot if anything changed or `request` wants one.

        One that was `begun` is gone on with.  Raises what stopped it; the state is then that of
        the last checkpoint.  Cancelling waits for at most one batch.
        """
        try:
            return await self._run(request, on_progress, begun)
        except JournalError as error:
            await trio.to_thread.run_sync(self._steps.mend, error)
            return await self._run(request, on_progress, None)

    async def _run(self, request: Request, on_progress: Told, begun: Begun | None) -> Outcome:
        try:
            if begun is None:
                begun = await trio.to_thread.run_sync(self._steps.begin, request)
            return await self._finished(begun, on_progress)
        except BaseException as error:
            self._steps.abandon()
            if isinstance(error, ExceptionGroup):
                raise _cause(error) from error
            raise
        finally:
            if begun is not None:
                self._steps.end(begun)

    async def _finished(self, begun: Begun, on_progress: Told) -> Outcome:
        pipeline = Pipeline(begun.writer, begun.journal, begun.pages, self._clock, on_progress)
        pipeline.counts = begun.counts
        try:
            await pipeline.run(begun.batches)
            put = pipeline.sink.page
            trees = Trees(begun.journal, begun.pages, put, begun.labels).rebuild()
            while await pipeline.step(trees):
                await pipeline.checkpoint_if_due()
            await trio.to_thread.run_sync(pipeline.make_durable)
            return await trio.to_thread.run_sync(self._steps.conclude, begun, pipeline.counts)
        except BaseException:
            pipeline.sink.drop()  # what is open takes room that the next try may need
            raise


def go_on(steps: Steps, clock: Clock, begun: Begun, on_progress: Told) -> Outcome:
    """Finish, in an event loop of its own, what was begun without one."""
    return trio.run(VaultBackup(steps, clock).run, begun.request, on_progress, begun)


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """Return what broke a run: one of our errors, if there is one among several."""
    leaves = [
        _cause(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions
    ]
    return next((leaf for leaf in leaves if isinstance(leaf, VitrineError)), leaves[0])
