"""Open packs: chunks and pages go in, full ones become durable, all of them at a checkpoint.

There is one open pack of a kind, whoever fills it: what is read together lies together, and
memory does not grow with the number of threads.  They squeeze each for itself, and take turns
only at sealing (docs/decisions/0012).  Small chunks come together in groups, which are squeezed
by whoever closes one, or later by whoever has time.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent.crypto.naming import IdKey
from agent.encode.codecs import squeeze
from agent.model.ids import TreeId
from agent.model.location import PackKind
from agent.repository.pack import ALONE_BYTES, GROUP_BYTES, PackBuilder, Placed
from agent.repository.writer import VaultWriter

GROUP_CHUNKS = 4096  # in a frame: of files of 128 bytes, half a megabyte


class _Group(NamedTuple):
    """Small chunks end to end, for one frame."""

    plain: bytearray
    chunks: list[Placed]

    @property
    def is_full(self) -> bool:
        return len(self.plain) >= GROUP_BYTES or len(self.chunks) >= GROUP_CHUNKS


class _OpenPack:
    """The pack of one kind that is being filled; its methods need the lock."""

    def __init__(self, writer: VaultWriter, kind: PackKind) -> None:
        self._writer = writer
        self._kind = kind
        self._builder: PackBuilder | None = None
        self.lock = threading.Lock()

    def builder(self) -> PackBuilder:
        """Return the pack to fill."""
        if self._builder is None:
            self._builder = self._writer.builder(self._kind)
        return self._builder

    def taken(self, *, full_only: bool) -> PackBuilder | None:
        """Return the pack, for its taker to put, if there is one."""
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
        self._lock = threading.Lock()  # of the groups
        self._group = _Group(bytearray(), [])
        self._full: list[_Group] = []

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Store a chunk unless it is known; return its id.

        `likely` is how many bytes an item of it has, if there is somebody who says so.
        """
        id_ = self._ids.chunk_id(data)
        if self._writer.claim(id_):
            if len(data) >= ALONE_BYTES:
                self._add_frame(data, [(id_, 0, len(data))], likely)
            else:
                self._gather(((id_, data),))
                self.store_groups()
        return id_

    def chunks(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Store small chunks unless they are known; return their ids."""
        ids = self.gather(pieces)
        self.store_groups()
        return ids

    def gather(self, pieces: Sequence[bytes]) -> list[bytes]:
        """As `chunks`, but leave what is full to `store_groups`, for a thread that has time."""
        ids: list[bytes] = list(map(self._ids.chunk_id, pieces))
        wanted = self._writer.claim_all(ids)
        chunks = zip(ids, pieces, strict=True)
        if len(wanted) == len(ids):
            self._gather(chunks)
        elif wanted:
            self._gather(one for one in dict(chunks).items() if one[0] in wanted)
        return ids

    @property
    def full_groups(self) -> int:
        """Return how many groups wait for `store_groups`."""
        return len(self._full)

    def store_groups(self) -> None:
        """Squeeze and store the groups that are full."""
        while True:
            with self._lock:
                if not self._full:
                    return
                group = self._full.pop(0)
            self._add_frame(group.plain, group.chunks)

    def page(self, page: bytes) -> TreeId:
        """Store a tree page or content page unless it is known; return its id."""
        id_ = self._ids.tree_id(page)
        if self._writer.claim(id_):
            with self._trees.lock:
                self._trees.builder().add(id_, page)
                full = self._trees.taken(full_only=True)
            self._put(full)
        return id_

    def put_all(self) -> None:
        """Make everything durable; nobody may store anything meanwhile."""
        with self._lock:
            if self._group.chunks:
                self._close_group()
        self.store_groups()
        for pack in (self._data, self._trees):
            with pack.lock:
                builder = pack.taken(full_only=False)
            self._put(builder)

    def drop(self) -> None:
        """Forget what was not put, after a failure; nobody may store anything any more."""
        for pack in (self._data, self._trees):
            with pack.lock:
                builder = pack.taken(full_only=False)
            if builder is not None:
                builder.drop()

    def _gather(self, chunks: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        with self._lock:
            for id_, data in chunks:
                group = self._group
                group.chunks.append((id_, len(group.plain), len(data)))
                group.plain.extend(data)
                if group.is_full:
                    self._close_group()

    def _close_group(self) -> None:
        """Begin another group; the lock is held."""
        self._full.append(self._group)
        self._group = _Group(bytearray(), [])

    def _add_frame(
        self, plain: bytearray | memoryview, chunks: Sequence[Placed], likely: int = 0
    ) -> None:
        codec, squeezed = squeeze(plain, likely)
        with self._data.lock:
            self._data.builder().add_frame(codec, squeezed, len(plain), chunks)
            full = self._data.taken(full_only=True)
        self._put(full)

    def _put(self, builder: PackBuilder | None) -> None:
        if builder is not None:
            self._writer.put(builder)
