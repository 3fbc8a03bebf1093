"""Open packs: whoever fills them, all comes to lie in one, once, and is durable when asked."""

import os
import threading
from pathlib import Path

from agent.backup.packs import PackSink
from agent.model.location import PackKind
from agent.repository import layout, pack
from agent.repository.indexcache import IndexCache
from agent.repository.pack import ALONE_BYTES, TARGET_BYTES
from agent.repository.reader import VaultReader
from agent.repository.writer import VaultWriter
from agent.store.memory import MemoryStore
from tests.fakes.vaults import Vault, make_vault, open_reader

THREADS = 4


class Filling:
    """A vault in memory, and the sink of one run."""

    def __init__(self, scratch: Path) -> None:
        """Start with nothing stored."""
        self.store = MemoryStore()
        self.vault: Vault = make_vault(self.store)
        self.scratch = scratch
        keys = self.vault.writer
        cache = IndexCache(scratch / "index", self.store, keys.vault, keys.index())
        self.writer = VaultWriter(self.store, keys, cache)
        self.sink = PackSink(self.writer)

    def packs(self) -> int:
        """Return how many packs are stored."""
        return sum(1 for _ in self.store.list(layout.PACKS))

    def reader(self) -> VaultReader:
        """Return a reader of what is durable and indexed."""
        self.sink.put_all()
        self.writer.flush()
        return open_reader(self.store, self.vault.secrets, self.scratch / "reader")


def test_many_threads_fill_one_pack_of_a_kind(tmp_path: Path) -> None:
    """Chunks with frames of their own, small ones and pages: each read back as it was."""
    filling = Filling(tmp_path)
    stored: dict[bytes, bytes] = {}

    def fill(number: int) -> None:
        for size in (10, ALONE_BYTES - 1, ALONE_BYTES, 3 * ALONE_BYTES):
            data = bytes([number]) + os.urandom(size - 1)
            stored[filling.sink.chunk(memoryview(data))] = data
        pieces = [bytes([number, n]) for n in range(200)]
        stored.update(zip(filling.sink.chunks(pieces), pieces, strict=True))
        filling.sink.page(b"page %d" % number)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not filling.packs()
    reader = filling.reader()
    assert filling.packs() == len(PackKind)
    assert len(stored) == THREADS * 204
    assert all(bytes(reader.chunk(id_)) == data for id_, data in stored.items())


def test_what_comes_twice_at_once_is_stored_once(tmp_path: Path) -> None:
    """Small files with equal contents are named alike and lie in the pack one time."""
    filling = Filling(tmp_path)
    pieces = [b"a", b"b", b"a"]
    first, second, third = filling.sink.chunks(pieces)
    assert first == third != second
    assert filling.sink.chunks(pieces) == [first, second, third]
    reader = filling.reader()
    assert filling.writer.added_bytes == sum(one.size for one in filling.store.list(layout.PACKS))
    assert [bytes(reader.chunk(id_)) for id_ in (first, second)] == [b"a", b"b"]


def test_a_full_pack_is_put_by_who_filled_it(tmp_path: Path) -> None:
    """Nothing waits for the next checkpoint, and what is more goes into the next pack."""
    filling = Filling(tmp_path)
    chunk = 4 * pack.MiB
    for _ in range(TARGET_BYTES // chunk + 1):
        filling.sink.chunk(memoryview(os.urandom(chunk)))
    assert filling.packs() == 1
    filling.reader()
    assert filling.packs() == 2
