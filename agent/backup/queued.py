"""How far a scan may be ahead of the threads that read files: counted in files, not in batches."""

import trio

QUEUED_FILES = 4096  # names and states, 1 KB each: enough to go on to small files meanwhile


class Queued:
    """How many files wait to be read.  For one task that adds."""

    def __init__(self) -> None:
        """Start with none."""
        self.files = 0
        self._fewer = trio.Event()

    async def add(self, files: int) -> None:
        """Wait for room; what is more than that ever is waits until it is alone."""
        while self.files and self.files + files > QUEUED_FILES:
            self._fewer = trio.Event()
            await self._fewer.wait()
        self.files += files

    def remove(self, files: int) -> None:
        """Count files that are being read."""
        self.files -= files
        self._fewer.set()
