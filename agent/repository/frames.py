"""Frames on their way out: fetched by range, opened, decoded, kept for a while.

One cache, bounded in bytes, holds decoded frames; a frame that two threads want is fetched once.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress

from agent.crypto.packkeys import FrameCipher
from agent.encode.codecs import MAX_PLAIN_BYTES, unsqueeze, unsqueeze_into
from agent.errors import ObjectDamaged, RepositoryError
from agent.model.ids import PackId, VaultId
from agent.model.location import FrameLocation, PackKind
from agent.repository import layout
from agent.repository.pack import Header, open_frame
from agent.repository.packkeys import PackKeys
from agent.repository.packtable import read_header
from agent.store.base import Store

MiB = 1024 * 1024
KEPT_CIPHERS = 4096  # a few hundred bytes each; a session rarely touches more packs
FETCH_MAX_BYTES = 8 * MiB  # one ranged get for neighbours: bounds what is in flight
MAX_FETCH_BYTES = MAX_PLAIN_BYTES + MiB  # of one frame, however its index may lie
FETCH_GAP_BYTES = 256 * 1024  # reading over a gap is cheaper than a second request


_Key = tuple[PackKind, FrameLocation]  # the kind too: what was read as data is never a tree


class Frame:
    """A decoded frame, and which stretches of it were checked against their ids."""

    __slots__ = ("checked", "plain")

    def __init__(self, plain: memoryview) -> None:
        """Take the decoded bytes."""
        self.plain = plain
        self.checked: set[tuple[bytes, int, int]] = set()


class FrameReader:
    """Reads frames of one vault's packs.  Thread-safe; every method may block."""

    def __init__(
        self, store: Store, vault: VaultId, pack_keys: PackKeys, *, cache_bytes: int
    ) -> None:
        """Keep at most about `cache_bytes` of decoded frames."""
        self._store = store
        self._vault = vault
        self._pack_keys = pack_keys
        self._cache_bytes = cache_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[_Key, Frame] = OrderedDict()
        self._coming: dict[_Key, Future[Frame]] = {}
        self._packs: OrderedDict[PackId, tuple[Header, FrameCipher]] = OrderedDict()

    def cached(self, at: FrameLocation, kind: PackKind) -> Frame | None:
        """Return the frame if it is here already; never blocks for long."""
        key = (kind, at)
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
            return frame

    def frame(self, at: FrameLocation, kind: PackKind) -> Frame:
        """Return the decoded frame; raise ObjectDamaged naming the pack where it does not open."""
        key = (kind, at)
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
                return frame
            coming = self._coming.get(key)
            mine: Future[Frame] = self._coming.setdefault(key, Future())
        if coming is None:
            self._fetch([at], kind, [mine])
        return mine.result()

    def prefetch(self, wanted: Iterable[FrameLocation], kind: PackKind) -> None:
        """Bring frames into the cache, neighbours with one request; errors wait for the reader."""
        for run in _runs(self._missing(wanted, kind)):
            mine = self._announce(run, kind)
            if mine:
                self._fetch([at for at, _ in mine], kind, [future for _, future in mine])

    def sealed(self, wanted: Iterable[FrameLocation]) -> dict[FrameLocation, memoryview]:
        """Return frames as they are stored, neighbours with one request, for `open_into`.

        What is missing or damaged is left out: asked for by `frame`, it says what is wrong.
        """
        found: dict[FrameLocation, memoryview] = {}
        for run in _runs(list(wanted)):
            start = run[0].offset
            with suppress(RepositoryError):
                data = self._range(run[0].pack, start, max(at.offset + at.stored for at in run))
                found |= {at: data[at.offset - start :][: at.stored] for at in run}
        return found

    def open_into(
        self, at: FrameLocation, kind: PackKind, sealed: memoryview, into: memoryview
    ) -> None:
        """Decode a frame into `into`, exactly as long; raises as `frame` does, keeps nothing."""
        self._opened(at, kind, sealed, into)

    def _missing(self, wanted: Iterable[FrameLocation], kind: PackKind) -> list[FrameLocation]:
        with self._lock:
            return [
                at
                for at in dict.fromkeys(wanted)
                if (kind, at) not in self._frames and (kind, at) not in self._coming
            ]

    def _announce(
        self, run: list[FrameLocation], kind: PackKind
    ) -> list[tuple[FrameLocation, Future[Frame]]]:
        """Promise the frames that nobody else has promised meanwhile."""
        mine: list[tuple[FrameLocation, Future[Frame]]] = []
        with self._lock:
            for at in run:
                key = (kind, at)
                if key not in self._frames and key not in self._coming:
                    self._coming[key] = Future()
                    mine.append((at, self._coming[key]))
        return mine

    def _fetch(
        self, run: list[FrameLocation], kind: PackKind, promised: list[Future[Frame]]
    ) -> None:
        """Keep promises for neighbouring frames of one pack, with a frame or with an error."""
        start = run[0].offset
        try:
            data = self._range(run[0].pack, start, max(at.offset + at.stored for at in run))
        except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            self._break_promises(run, kind, promised, error)
            return
        for at, future in zip(run, promised, strict=True):
            try:
                sealed = data[at.offset - start : at.offset - start + at.stored]
                frame = Frame(self._opened(at, kind, sealed))
            except BaseException as error:  # noqa: BLE001 - as above
                self._break_promises([at], kind, [future], error)
            else:
                self._keep((kind, at), frame)
                future.set_result(frame)

    def _range(self, pack: PackId, start: int, end: int) -> memoryview:
        name = layout.pack(pack)
        if end - start > MAX_FETCH_BYTES:
            raise ObjectDamaged(f"{name} has a frame of {end - start} bytes by its index")
        return memoryview(self._store.get_range(name, start, end - start))

    def _break_promises(
        self,
        run: list[FrameLocation],
        kind: PackKind,
        promised: list[Future[Frame]],
        error: BaseException,
    ) -> None:
        with self._lock:
            for at in run:
                self._coming.pop((kind, at), None)
        for future in promised:
            future.set_exception(error)

    def _keep(self, key: _Key, frame: Frame) -> None:
        with self._lock:
            self._coming.pop(key, None)
            self._frames[key] = frame
            self._held_bytes += len(frame.plain)
            while self._held_bytes > self._cache_bytes and len(self._frames) > 1:
                _, dropped = self._frames.popitem(last=False)
                self._held_bytes -= len(dropped.plain)

    def _opened(
        self,
        at: FrameLocation,
        kind: PackKind,
        sealed: memoryview,
        into: memoryview | None = None,
    ) -> memoryview:
        header, cipher = self._pack(at.pack)
        name = layout.pack(at.pack)
        if header.kind is not kind or header.vault != self._vault:
            raise ObjectDamaged(f"{name} holds something else than its index says")
        try:
            squeezed = open_frame(cipher, header, at, sealed)
            if into is None:
                return memoryview(unsqueeze(at.codec, squeezed, at.plain)).toreadonly()
            unsqueeze_into(at.codec, squeezed, into)
            return into
        except ObjectDamaged as error:
            raise ObjectDamaged(
                f"{name}, frame {at.number}: {error.message}",
                hint="run `vitrine verify --read-data`; bring the pack back from a copy",
            ) from error

    def _pack(self, pack: PackId) -> tuple[Header, FrameCipher]:
        with self._lock:
            known = self._packs.get(pack)
            if known is not None:
                self._packs.move_to_end(pack)
                return known
        header, preamble = read_header(self._store, pack)
        opened = (header, FrameCipher(self._pack_keys.pack_key(pack, preamble)))
        with self._lock:
            self._packs[pack] = opened
            while len(self._packs) > KEPT_CIPHERS:
                self._packs.popitem(last=False)
        return opened


def _runs(wanted: list[FrameLocation]) -> Iterator[list[FrameLocation]]:
    """Yield runs of frames that lie close together in one pack."""
    run: list[FrameLocation] = []
    for at in sorted(wanted, key=lambda at: (at.pack, at.offset)):
        if run and not _joins(run, at):
            yield run
            run = []
        run.append(at)
    if run:
        yield run


def _joins(run: list[FrameLocation], at: FrameLocation) -> bool:
    end = run[-1].offset + run[-1].stored
    close = at.pack == run[-1].pack and at.offset - end <= FETCH_GAP_BYTES
    return close and at.offset + at.stored - run[0].offset <= FETCH_MAX_BYTES
