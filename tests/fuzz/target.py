"""What a fuzz target is: a decoder, what it may raise, and examples to begin with."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.errors import VitrineError

KiB = 1024


def no_seeds() -> Iterable[bytes]:
    """Return nothing: libFuzzer begins with an empty input."""
    return ()


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder under test.

    `run` gives the bytes to the decoder, and fails where one of its properties does not hold.
    """

    name: str
    decodes: tuple[str, ...]  # module:function, of what is run
    run: Callable[[bytes], None]
    errors: tuple[type[VitrineError], ...] = ()  # what its contract lets it raise
    seeds: Callable[[], Iterable[bytes]] = no_seeds
    max_bytes: int = 4 * KiB

    def __call__(self, data: bytes) -> None:
        """Run it; what it raises beyond `errors` is a finding."""
        try:
            self.run(data)
        except self.errors:
            return


@contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    """Hold `data` in a file of memory, for who reads files: nobody else may read it."""
    descriptor = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@cache
def scratch() -> Path:
    """Return a directory of this process, removed when it ends.

    Where libFuzzer ends it, that is done by who started it, in whose directory it lies.
    """
    made = Path(tempfile.mkdtemp(prefix="vitrine-fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
