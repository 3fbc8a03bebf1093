"""Decoded pages in bounded memory."""

import pytest

from agent.model.ids import TreeId
from agent.model.tree import Entry, TreePage
from fsdriver.cache import NotCached, PageCache


class Pages:
    """Pages of one entry each, counted as they are read."""

    def __init__(self) -> None:
        """Start at none."""
        self.read: list[TreeId] = []
        self.in_memory: set[bytes] = set()

    def page(self, tree_id: TreeId) -> TreePage:
        """Return a page named like its id, with a kilobyte of content."""
        self.read.append(tree_id)
        return TreePage(entries=(Entry(name=tree_id, content=bytes(1000)),))

    def cached_page(self, tree_id: TreeId) -> TreePage | None:
        """Return a page that need not be waited for."""
        return self.page(tree_id) if tree_id in self.in_memory else None


def test_page_whose_bytes_are_in_memory_is_not_waited_for() -> None:
    """It is decoded at once, and kept; another one would take waiting."""
    pages = Pages()
    pages.in_memory = {b"a"}
    cache = PageCache(pages, 100_000)
    for _ in range(2):
        assert cache.only.page(TreeId(b"a")).entries[0].name == b"a"
    assert pages.read == [b"a"]
    with pytest.raises(NotCached):
        cache.only.page(TreeId(b"b"))


def test_page_is_read_once_while_there_is_room() -> None:
    """Asked for again, it is here."""
    pages = Pages()
    cache = PageCache(pages, 100_000)
    for _ in range(3):
        assert cache.page(TreeId(b"a")).entries[0].name == b"a"
    assert pages.read == [b"a"]
    assert cache.only.page(TreeId(b"a")).entries[0].name == b"a"


def test_least_recently_used_page_is_dropped_first() -> None:
    """The bound is in bytes: five pages of 1.7 KB fit into 9 KB, whichever they are."""
    pages = Pages()
    cache = PageCache(pages, 9_000)
    for name in b"abcde":
        cache.page(TreeId(bytes([name])))
    cache.page(TreeId(b"a"))
    cache.page(TreeId(b"f"))
    kept = [bytes([name]) for name in b"abcdef" if cache.cached(TreeId(bytes([name])))]
    assert kept == [b"a", b"c", b"d", b"e", b"f"]


def test_page_larger_than_the_bound_is_still_served() -> None:
    """One page is always kept, or its directory could not be read at all."""
    pages = Pages()
    cache = PageCache(pages, 10)
    cache.page(TreeId(b"a"))
    assert cache.cached(TreeId(b"a")) is not None
    cache.page(TreeId(b"b"))
    assert cache.cached(TreeId(b"a")) is None
