"""Writing a batch: files one after another, each counted or named with why it failed."""

from collections.abc import Callable, Sequence

from agent.restore.batch import Item, Placed, in_pack_order
from agent.restore.content import Chunks
from agent.restore.failures import OF_ONE_FILE, reason, refuse_end
from agent.restore.tally import Done
from agent.restore.writer import EntryWriter


class FileWork:
    """What writes batches.  Thread-safe."""

    def __init__(self, reader: Chunks, writer: EntryWriter, check: Callable[[], None]) -> None:
        """Take what reads and what writes; `check` raises once the restore must end."""
        self._reader = reader
        self._writer = writer
        self._check = check

    def batch(self, items: Sequence[Item]) -> Done:
        """Write the files; return what they came to, or raise what ends the restore."""
        done = Done()
        for some in in_pack_order(self._reader, items):
            self._reader.prefetch_frames(list(some.frames))
            for placed in some.files:
                self._file(placed, done)
        return done

    def one(self, item: Item) -> Done:
        """Write one entry that is no directory, likewise."""
        done = Done()
        self._file(Placed(0, item, ()), done)
        return done

    def _file(self, placed: Placed, done: Done) -> None:
        self._check()
        at, source, entry = placed.item
        try:
            unset = self._writer.write(at, source, entry, placed.pieces)
        except OF_ONE_FILE as error:
            refuse_end(error)
            done.failed.append((placed.number, reason(error)))
        else:
            done.restored(entry.size, unset)
