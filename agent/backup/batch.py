"""Files to be read, gathered until there are enough of them for one thread call."""

from typing import NamedTuple

from agent.backup.journal import Directory
from agent.backup.listing import Found, OpenSource

MiB = 1024 * 1024
BATCH_FILES = 512  # a thread call costs what a few small files do
BATCH_BYTES = 16 * MiB  # bounds what a cancelled run waits for
BREATH_NAMES = 8192  # names looked at between two chances to be cancelled: about 50 ms
SMALL_FILE_BYTES = 16 * 1024


class Work(NamedTuple):
    """Files of one directory that are to be read."""

    directory: Directory
    files: list[Found]


class Batch(NamedTuple):
    """Files to be read in one go; an empty one is a chance to be cancelled."""

    source: OpenSource
    work: list[Work]
    looked_at: int  # names compared since the batch before
    files: int
    bytes: int

    @property
    def is_small(self) -> bool:
        """Tell whether more time goes into opening its files than into their bytes."""
        return self.bytes <= self.files * SMALL_FILE_BYTES


class Gathering:
    """The batch of one source that is being filled."""

    def __init__(self, source: OpenSource) -> None:
        """Start empty."""
        self._source = source
        self._work: list[Work] = []
        self._files = self._bytes = 0
        self.looked_at = 0  # for the scan to count up

    @property
    def is_due(self) -> bool:
        """Tell whether there is enough."""
        return (
            self.looked_at >= BREATH_NAMES
            or self._files >= BATCH_FILES
            or self._bytes >= BATCH_BYTES
        )

    def add(self, directory: Directory, found: Found) -> None:
        """Have a file read."""
        if not self._work or self._work[-1].directory.id != directory.id:
            self._work.append(Work(directory, []))
        self._work[-1].files.append(found)
        self._files += 1
        self._bytes += found.stat.st_size

    def taken(self) -> Batch:
        """Return what has come together, and start again."""
        batch = Batch(self._source, self._work, self.looked_at, self._files, self._bytes)
        self._work = []
        self._files = self._bytes = self.looked_at = 0
        return batch
