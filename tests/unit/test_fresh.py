"""Memory that is not filled with zeros first."""

import sys

import pytest

from agent.fresh import mapped, unfilled


@pytest.mark.parametrize("size", [0, 1, 4096, 5_000_000])
def test_buffer_has_its_size_and_takes_any_bytes(size: int) -> None:
    """It is a bytearray as any other: writable, resizable, of the length asked for."""
    buffer = unfilled(size)
    assert len(buffer) == size
    buffer[:] = b"\xa5" * size
    assert buffer == b"\xa5" * size
    buffer += b"more"
    assert buffer[size:] == b"more"


@pytest.mark.parametrize("size", [-1, sys.maxsize])
def test_impossible_size_is_an_error(size: int) -> None:
    """A size that no memory has is refused, as `bytearray` refuses it."""
    with pytest.raises(MemoryError):
        unfilled(size)


@pytest.mark.parametrize("size", [1, 4097, 5_000_000])
def test_mapped_memory_is_zero_and_takes_any_bytes(size: int) -> None:
    """It has the size asked for, and a view of it can be written."""
    room = mapped(size)
    assert len(room) == size
    assert room[:] == bytes(size)
    memoryview(room)[size - 1 :] = b"\xa5"
    assert room[size - 1] == 0xA5
