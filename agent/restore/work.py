"""Writing a batch: files one after another, each counted or named with why it failed."""

from collections.abc import Callable, Sequence

from agent.restore.batch import Item, in_pack_order
from agent.restore.failures import OF_ONE_FILE, reason, refuse_end
from agent.restore.pieces import Chunks, Window, fetch
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
            sealed = fetch(self._reader, some.frames)
            for number, item, pieces in some.files:
                self._file(number, item, Window(pieces, sealed) if pieces else None, done)
            del sealed  # before the next, which is as large
        return done

    def one(self, item: Item) -> Done:
        """Write one entry that is no directory, likewise."""
        done = Done()
        self._file(0, item, None, done)
        return done

    def _file(self, number: int, item: Item, whole: Window | None, done: Done) -> None:
        self._check()
        at, source, entry = item
        try:
            unset = self._writer.write(at, source, entry, whole)
        except OF_ONE_FILE as error:
            refuse_end(error)
            done.failed.append((number, reason(error)))
        else:
            done.restored(entry.size, unset)
