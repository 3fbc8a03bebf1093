"""What was restored is on its way to the disk early, and there at the end."""

import errno
import os
from pathlib import Path

import pytest

from agent.errors import RestoreIncomplete
from agent.restore import writeback


def test_a_large_file_keeps_its_bytes_and_times(tmp_path: Path) -> None:
    """Beginning to write it changes nothing that anybody sees."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(writeback.FROM_BYTES))
    before, data = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        writeback.begin(file.fileno(), len(data))
        writeback.finish(file.fileno())
    after = path.stat()
    assert path.read_bytes() == data
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_beginning_is_a_hint() -> None:
    """A descriptor that takes none, a pipe, is no failure; `finish` tells of those."""
    read, write = os.pipe()
    writeback.begin(write, writeback.FROM_BYTES)
    os.close(read)
    os.close(write)


def test_what_is_not_durable_is_not_restored() -> None:
    """The restore ends with an error that says why."""
    with pytest.raises(RestoreIncomplete, match=os.strerror(errno.EBADF)):
        writeback.finish(-1)
