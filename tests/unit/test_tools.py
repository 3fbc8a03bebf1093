"""Contexts and buffers of compressors are shared by threads, and never by two at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.encode import tools
from agent.encode.tools import Tools, lent

KiB = 1024


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> list[Tools]:
    """Return the list of tools that nobody uses, empty at first."""
    empty: list[Tools] = []
    monkeypatch.setattr(tools, "_idle", empty)
    return empty


def test_there_are_as_many_as_are_in_use_at_once(idle: list[Tools]) -> None:
    """Whatever number of threads come after each other."""
    used: set[int] = set()

    def use(_: int) -> None:
        with lent() as mine:
            used.add(id(mine))

    for number in range(5):
        thread = threading.Thread(target=use, args=(number,))
        thread.start()
        thread.join()
    assert len(used) == len(idle) == 1


def test_nobody_has_what_another_has(idle: list[Tools]) -> None:
    """Threads that squeeze beside each other have tools of their own, and give them back."""
    barrier = threading.Barrier(4)

    def use(_: int) -> int:
        with lent() as mine:
            barrier.wait()
            return id(mine)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(use, range(4)))) == 4
    assert len(idle) == 4


def test_what_was_in_use_when_something_failed_is_not_used_again(idle: list[Tools]) -> None:
    """A context may be left in the midst of a hostile chunk."""
    with pytest.raises(ZeroDivisionError), lent():
        raise ZeroDivisionError
    assert not idle


def test_whoever_chooses_block_sizes_gets_no_memory_for_each() -> None:
    """They are kept for the few sizes that our own chunks have."""
    mine = Tools()
    first = mine.decompressor(16 * KiB)
    assert mine.decompressor(16 * KiB) is first
    for size in range(100):
        mine.decompressor(size * KiB)
    assert len(mine._decompressors) <= tools._KEPT_DECOMPRESSORS


def test_a_buffer_of_any_size_is_to_be_had() -> None:
    """Of what no chunk reaches nothing is kept."""
    mine = Tools()
    for length in (0, 1, 4 * KiB * KiB, 4 * KiB * KiB + 1):
        assert len(mine.squeezed(length)) >= length
        assert len(mine.plain(length)) >= length
    assert mine.plain(1) is not mine.squeezed(1)
    assert len(mine.plain(1)) == 4 * KiB * KiB
