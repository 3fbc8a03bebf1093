"""Open packs: chunks and pages go in, full ones become durable, all of them at a checkpoint.

There is one open pack of a kind, whoever fills it: what is read together lies together, and
memory does not grow with the number of threads.  They squeeze each for itself, and take turns
only at sealing (docs/decisions/0012).
"""

import threading
from collections.abc import Sequence

from agent.crypto.naming import IdKey
from agent.encode.codecs import squeeze
from agent.model.ids import TreeId
from agent.model.location import PackKind
from agent.repository.pack import ALONE_BYTES, PackBuilder
from agent.repository.writer import VaultWriter


class _OpenPack:
    """The pack of one kind that is being filled."""

    def __init__(self, writer: VaultWriter, kind: PackKind) -> None:
        self._writer = writer
        self._kind = kind
        self._builder: PackBuilder | None = None
        self.lock = threading.Lock()

    def builder(self) -> PackBuilder:
        """Return the pack to fill while the lock is held."""
        if self._builder is None:
            self._builder = self._writer.builder(self._kind)
        return self._builder

    def taken(self, *, full_only: bool) -> PackBuilder | None:
        """Return the pack, for its taker to put, if there is one; the lock is held."""
        builder = self._builder
        if builder is None or (full_only and not builder.is_full):
            return None
        self._builder = None
        return builder


class PackSink:
    """Where a run's chunks and pages go.  Thread-safe."""

    def __init__(self, writer: VaultWriter) -> None:
        """Take the run's writer."""
        self._writer = writer
        self._ids: IdKey = writer.ids
        self._data = _OpenPack(writer, PackKind.DATA)
        self._trees = _OpenPack(writer, PackKind.TREE)

    def chunk(self, data: memoryview) -> bytes:
        """Store a chunk unless it is known; return its id."""
        id_ = self._ids.chunk_id(data)
        if self._writer.claim(id_):
            if len(data) < ALONE_BYTES:
                self._add(self._data, [(id_, data)])
            else:
                self._add_alone(id_, data)
        return id_

    def chunks(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Store small chunks unless they are known; return their ids."""
        ids: list[bytes] = list(map(self._ids.chunk_id, pieces))
        wanted = self._writer.claim_all(ids)
        by_id = zip(ids, pieces, strict=True)
        if len(wanted) == len(ids):
            self._add(self._data, list(by_id))
        elif wanted:
            self._add(self._data, [one for one in dict(by_id).items() if one[0] in wanted])
        return ids

    def page(self, page: bytes) -> TreeId:
        """Store a tree page or content page unless it is known; return its id."""
        id_ = self._ids.tree_id(page)
        if self._writer.claim(id_):
            self._add(self._trees, [(id_, page)])
        return id_

    def put_all(self) -> None:
        """Make everything durable; nobody may store anything meanwhile."""
        for pack in (self._data, self._trees):
            with pack.lock:
                builder = pack.taken(full_only=False)
            self._put(builder)

    def _add(self, pack: _OpenPack, chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        at = 0
        while at < len(chunks):
            with pack.lock:
                builder = pack.builder()
                while at < len(chunks) and not builder.is_full:
                    builder.add(*chunks[at])
                    at += 1
                full = pack.taken(full_only=True)
            self._put(full)

    def _add_alone(self, id_: bytes, data: memoryview) -> None:
        codec, squeezed = squeeze(data)
        with self._data.lock:
            self._data.builder().add_squeezed(id_, codec, squeezed, len(data))
            full = self._data.taken(full_only=True)
        self._put(full)

    def _put(self, builder: PackBuilder | None) -> None:
        if builder is not None:
            self._writer.put(builder)
