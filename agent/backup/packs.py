"""Open packs: chunks and pages go in, full ones become durable, all of them at a checkpoint.

A builder serves one thread at a time; threads take one, fill it, and give it back, so that small
batches share packs.
"""

import threading
from collections.abc import Sequence

from agent.crypto.naming import IdKey
from agent.model.ids import TreeId
from agent.model.location import PackKind
from agent.repository.pack import PackBuilder
from agent.repository.writer import VaultWriter, put_page


class Packs:
    """The packs of one run that are not put yet.  Thread-safe."""

    def __init__(self, writer: VaultWriter) -> None:
        """Take the run's writer."""
        self._writer = writer
        self._lock = threading.Lock()
        self._idle: list[PackBuilder] = []

    def sink(self) -> "PackSink":
        """Return a sink for one thread; it must be `close`d."""
        return PackSink(self, self._writer)

    def take(self, kind: PackKind) -> PackBuilder:
        """Return a builder that is nobody else's until it is given back."""
        with self._lock:
            for position, builder in enumerate(self._idle):
                if builder.kind is kind:
                    return self._idle.pop(position)
        return self._writer.builder(kind)

    def give_back(self, builder: PackBuilder) -> None:
        """Put the pack if it is full; keep it for the next taker if not."""
        if builder.is_full:
            self._writer.put(builder)
        elif not builder.is_empty:
            with self._lock:
                self._idle.append(builder)

    def put_all(self) -> None:
        """Make every pack durable; nobody may hold one meanwhile."""
        with self._lock:
            builders, self._idle = self._idle, []
        for builder in builders:
            self._writer.put(builder)


class PackSink:
    """Where one thread's chunks and pages go."""

    def __init__(self, packs: Packs, writer: VaultWriter) -> None:
        """Take the run's packs and writer."""
        self._packs = packs
        self._writer = writer
        self._ids: IdKey = writer.ids
        self._builders: dict[PackKind, PackBuilder] = {}

    def chunk(self, data: memoryview) -> bytes:
        """Store a chunk unless it is known; return its id."""
        id_ = self._ids.chunk_id(data)
        if self._writer.claim(id_):
            builder = self._builder(PackKind.DATA)
            builder.add(id_, data)
            self._give_back_if_full(builder)
        return id_

    def chunks(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Store small chunks unless they are known; return their ids."""
        ids: list[bytes] = list(map(self._ids.chunk_id, pieces))
        wanted = self._writer.claim_all(ids)
        for id_, data in zip(ids, pieces, strict=True):
            if id_ in wanted:
                wanted.remove(id_)
                builder = self._builder(PackKind.DATA)
                builder.add(id_, data)
                self._give_back_if_full(builder)
        return ids

    def page(self, page: bytes) -> TreeId:
        """Store a tree page or content page unless it is known; return its id."""
        builder = self._builder(PackKind.TREE)
        id_ = put_page(self._writer, builder, page)
        self._give_back_if_full(builder)
        return id_

    def close(self) -> None:
        """Give back what is not full."""
        while self._builders:
            self._packs.give_back(self._builders.popitem()[1])

    def _builder(self, kind: PackKind) -> PackBuilder:
        builder = self._builders.get(kind)
        if builder is None:
            builder = self._builders[kind] = self._packs.take(kind)
        return builder

    def _give_back_if_full(self, builder: PackBuilder) -> None:
        if builder.is_full:
            self._packs.give_back(self._builders.pop(builder.kind))
