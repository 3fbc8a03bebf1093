"""What is staged reaches its file whole, past the page cache or through it."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.restore.staging import DIRECT_FROM_BYTES, ROOM_BYTES, Staging

_SIZES = [1, 4096, DIRECT_FROM_BYTES - 1, DIRECT_FROM_BYTES, DIRECT_FROM_BYTES + 1,
          ROOM_BYTES, ROOM_BYTES + 4097, 2 * ROOM_BYTES + 5]  # fmt: skip


class Stage:
    """A staging, and what it said that it took."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.taken = b""
        self.staging = Staging(self._take)

    def write(self, path: Path, *parts: bytes | int) -> bytes:
        """Write parts, of which a number is a stretch left out; return what the file holds."""
        self.taken = b""
        with path.open("wb") as file:
            self.staging.begin(file.fileno())
            for part in parts:
                if isinstance(part, int):
                    self.staging.skip(part)
                else:
                    self.staging.add(memoryview(part))
            self.staging.flush()
        return path.read_bytes()

    def _take(self, data: memoryview) -> None:
        self.taken += bytes(data)


@pytest.mark.parametrize("size", _SIZES)
def test_a_file_of_any_size_is_whole(tmp_path: Path, size: int) -> None:
    """Aligned or not, in one piece or several; one file after another through the same room."""
    stage = Stage()
    for number in range(2):
        data = os.urandom(size)
        parts = data[: size // 3], data[size // 3 :]
        assert stage.write(tmp_path / f"f{number}", *parts) == data
        assert stage.taken == data


def test_what_is_filled_in_place_follows_what_was_added(tmp_path: Path) -> None:
    """Also where the room is full: what is left of a block moves up, and is heard of once."""
    stage = Stage()
    parts = [os.urandom(size) for size in (1000, ROOM_BYTES - 5000, 9000, ROOM_BYTES - 4096, 70)]
    with (tmp_path / "f").open("wb") as file:
        stage.staging.begin(file.fileno())
        for part in parts:
            stage.staging.add(memoryview(part[:1]))
            room = stage.staging.room(len(part) - 1)
            assert room is not None
            room[:] = part[1:]
            stage.staging.filled(len(room))
        assert stage.staging.room(ROOM_BYTES + 1) is None
        stage.staging.flush()
    assert (tmp_path / "f").read_bytes() == stage.taken == b"".join(parts)


@pytest.mark.parametrize("hole", [4096, 65536, 5])
def test_what_is_left_out_reads_as_zeros(tmp_path: Path, hole: int) -> None:
    """What follows lies behind it, also where that is not aligned."""
    before, after = os.urandom(DIRECT_FROM_BYTES + 9), os.urandom(DIRECT_FROM_BYTES)
    stage = Stage()
    assert stage.write(tmp_path / "f", before, hole, after) == before + bytes(hole) + after
    assert stage.taken == before + after


def test_a_file_system_without_direct_writes_gets_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once, whichever call refuses."""
    asked = []
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, flags: int) -> int:
        if flags & os.O_DIRECT:
            asked.append(flags)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(descriptor, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    stage, data = Stage(), os.urandom(2 * DIRECT_FROM_BYTES)
    for name in ("a", "b"):
        assert stage.write(tmp_path / name, data) == data
    assert len(asked) == 1


def _write(result: int | OSError) -> Callable[[int, memoryview, int], int]:
    """Return a pwrite(2) whose first call gives this, and whose others are real."""
    real, results = os.pwrite, [result]

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if not results:
            return real(descriptor, data, offset)
        first = results.pop()
        if isinstance(first, OSError):
            raise first
        return real(descriptor, data[:first], offset)

    return pwrite


def test_a_direct_write_that_stops_short_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may write less than it was asked to."""
    data = os.urandom(2 * DIRECT_FROM_BYTES + 77)
    monkeypatch.setattr(os, "pwrite", _write(8192))
    assert Stage().write(tmp_path / "f", data) == data


def test_a_full_disk_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not taken for a file system that cannot write directly."""
    monkeypatch.setattr(os, "pwrite", _write(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OSError, match="no space"):
        Stage().write(tmp_path / "f", os.urandom(DIRECT_FROM_BYTES))
