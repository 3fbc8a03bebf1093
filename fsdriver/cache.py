"""Decoded tree pages in memory, bounded in bytes.  Frames are the reader's own to keep."""

import threading
from collections import OrderedDict
from typing import Protocol

from agent.model.ids import TreeId
from agent.model.tree import TreePage
from agent.repository.trees import entry_weight

_ENTRY_BYTES = 700  # measured with tracemalloc: an Entry's fields as Python objects
_REF_BYTES = 180


class NotCached(Exception):
    """Answering would block.  A signal inside fsdriver; it reaches nobody."""


class PageReader(Protocol):
    """What reads a page when it is not here."""

    def page(self, tree_id: TreeId) -> TreePage:
        """Return a page, verified and decoded; may block."""
        ...

    def cached_page(self, tree_id: TreeId) -> TreePage | None:
        """Return a page whose frame is in memory, decoded; does not block."""
        ...


class PageCache:
    """Pages by id, least recently used ones dropped first.  Thread-safe."""

    def __init__(self, reader: PageReader, max_bytes: int) -> None:
        """Keep at most about `max_bytes`, and never fewer than one page."""
        self._reader = reader
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._pages: OrderedDict[TreeId, tuple[TreePage, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.only = OnlyCached(self)

    def page(self, tree_id: TreeId) -> TreePage:
        """Return the page, reading it if it is not here; may block."""
        found = self.cached(tree_id)
        if found is not None:
            return found
        page = self._reader.page(tree_id)
        self._keep(tree_id, page)
        return page

    def cached(self, tree_id: TreeId) -> TreePage | None:
        """Return the page if it is here, or if its bytes are; does not block."""
        with self._lock:
            found = self._pages.get(tree_id)
            if found is not None:
                self._pages.move_to_end(tree_id)
                return found[0]
        page = self._reader.cached_page(tree_id)  # decoding takes less than asking a thread
        if page is not None:
            self._keep(tree_id, page)
        return page

    def _keep(self, tree_id: TreeId, page: TreePage) -> None:
        cost = _cost(page)
        with self._lock:
            if tree_id in self._pages:  # another thread read it meanwhile
                return
            self._pages[tree_id] = (page, cost)
            self._held_bytes += cost
            while self._held_bytes > self._max_bytes and len(self._pages) > 1:
                _, (_, dropped) = self._pages.popitem(last=False)
                self._held_bytes -= dropped


class OnlyCached:
    """The pages that are here: for the event loop, which must not wait."""

    __slots__ = ("_cache",)

    def __init__(self, cache: PageCache) -> None:
        """Take the cache to look into."""
        self._cache = cache

    def page(self, tree_id: TreeId) -> TreePage:
        """Return the page if it is here; raise NotCached where it is not."""
        page = self._cache.cached(tree_id)
        if page is None:
            raise NotCached
        return page


def _cost(page: TreePage) -> int:
    entries = sum(_ENTRY_BYTES + entry_weight(entry) for entry in page.entries)
    return entries + len(page.pages) * _REF_BYTES
