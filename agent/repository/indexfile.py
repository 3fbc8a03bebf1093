"""One index object's plaintext: which chunk lies where, as whoever searches it maps it.

An index object's plaintext is laid out so that it can be searched where it lies, without being
read: sorted, fixed-width records.  Integers are little-endian (docs/format.md 5).

    header  32  "VITRINDX", version u32, packs u32, frames u32, superseded u32, chunks u64
    packs       id (32), first frame u32, kind u8, 0 0 0, size u64
    frames      offset u32, stored u32, plain u32, codec u8, 0 0 0
    superseded  ids (32) of index objects whose content is all in this one
    chunks      id (32), pack u32, frame u32, offset u32, length u32; sorted by id
"""

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.ids import ID_BYTES, IndexId, PackId
from agent.model.location import ChunkLocation, FrameLocation, PackKind
from agent.repository.pack import FRAME_ROW, FrameRow

MAGIC = b"VITRINDX"
VERSION = 1
HEADER = struct.Struct("<8sIIIIQ")
PACK_ROW = struct.Struct("<32sIB3xQ")  # id, first frame, kind, size
RECORD = struct.Struct("<32sIIII")  # chunk id, pack, frame, offset, length
_U32X4 = struct.Struct("<IIII")
_PACK_NUMBER = struct.Struct("<I")  # the field of RECORD after the id
_AFTER_PACK = ID_BYTES + _PACK_NUMBER.size
_PREFIX = struct.Struct(">Q")  # of an id, as a number that sorts as ids do
_PREFIX_BITS = 64
NEAR_RECORDS = 24  # a lookup's second guess is that close, or it goes by halves
_KINDS = frozenset(kind.value for kind in PackKind)


class PackRow(NamedTuple):
    """A pack as an index lists it."""

    id: PackId
    first_frame: int
    kind: PackKind
    size: int


class IndexFile:
    """One index object's plaintext, searched where it lies."""

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        """Take the plaintext, or a map of it; `name` is the object's id in hexadecimal."""
        self._data = data
        self.name = name
        self.id = IndexId(bytes.fromhex(name))
        if len(data) < HEADER.size:
            raise ObjectDamaged(f"index {name} is cut short")
        magic, version, packs, frames, superseded, chunks = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise ObjectDamaged(f"{name} is not an index")
        if version != VERSION:
            raise RepositoryTooNew(f"index {name} has version {version}; this program knows 1")
        self.pack_count, self.frame_count, self.chunk_count = packs, frames, chunks
        self._frames_at = HEADER.size + packs * PACK_ROW.size
        superseded_at = self._frames_at + frames * FRAME_ROW.size
        self._chunks_at = superseded_at + superseded * ID_BYTES
        if self._chunks_at + chunks * RECORD.size != len(data):
            raise ObjectDamaged(f"index {name} has the wrong length")
        self.supersedes = tuple(
            IndexId(data[at : at + ID_BYTES])
            for at in range(superseded_at, self._chunks_at, ID_BYTES)
        )
        self._latest: tuple[int, int, FrameLocation] | None = None
        self._check_packs()

    @classmethod
    def map(cls, descriptor: int, name: str) -> "IndexFile":
        """Map a file by descriptor; the descriptor may be closed afterwards."""
        if not os.fstat(descriptor).st_size:
            raise ObjectDamaged(f"index {name} is empty")
        return cls(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), name)

    def find(self, id_: bytes) -> ChunkLocation | None:
        """Return where the chunk lies, or None."""
        record = self._record(id_)
        if record is None:
            return None
        pack, frame, offset, length = record
        return ChunkLocation(self._frame(pack, frame), offset, length)

    def find_each(self, id_: bytes) -> Iterator[ChunkLocation]:
        """Yield every place of the chunk: two writers may have stored it at once."""
        for number, _ in self.places(id_):
            at = self._chunks_at + number * RECORD.size + ID_BYTES
            pack, frame, offset, length = _U32X4.unpack_from(self._data, at)
            yield ChunkLocation(self._frame(pack, frame), offset, length)

    def __contains__(self, id_: bytes) -> bool:
        """Tell whether the file lists the chunk."""
        return self._at(id_) >= 0

    def supplies(self, id_: bytes, doomed: Collection[PackId], relied: set[PackId]) -> bool:
        """Tell whether a pack that is not `doomed` holds the chunk; add that one to `relied`."""
        if self._at(id_) < 0:
            return False
        for _, number in self.places(id_):
            pack = self._pack(number).id
            if pack not in doomed:
                relied.add(pack)
                return True
        return False

    def frames_after(self, id_: bytes, frame: int) -> Iterator[FrameLocation]:
        """Yield the frames behind number `frame` in the pack that holds the chunk, in order."""
        record = self._record(id_)
        if record is None:
            return
        number = record[0]
        last = number + 1 == self.pack_count
        end = self.frame_count if last else self._pack(number + 1).first_frame
        for following in range(frame + 1, end - self._pack(number).first_frame):
            yield self._frame(number, following)

    def _record(self, id_: bytes) -> tuple[int, int, int, int] | None:
        """Return pack, frame, offset and length of the chunk's record, or None."""
        at = self._at(id_)
        return _U32X4.unpack_from(self._data, at + ID_BYTES) if at >= 0 else None

    def _at(self, id_: bytes) -> int:
        """Return where the chunk's record begins, or -1.

        Ids are as good as random, so where one lies follows from its value: the second guess is a
        few records off (docs/decisions/0012).  Where they are not, it is found by halves.
        """
        data, base, count = self._data, self._chunks_at, self.chunk_count
        if count <= 2 * NEAR_RECORDS:
            return self._at_within(id_, 0, count)
        (wanted,) = _PREFIX.unpack_from(id_)
        guess = wanted * count >> _PREFIX_BITS
        (met,) = _PREFIX.unpack_from(data, base + guess * RECORD.size)
        guess += (wanted - met) * count >> _PREFIX_BITS
        low = min(max(guess - NEAR_RECORDS, 0), count - 2 * NEAR_RECORDS)
        start = base + low * RECORD.size
        end = start + 2 * NEAR_RECORDS * RECORD.size
        is_below = low == 0 or data[start : start + ID_BYTES] <= id_
        if is_below and (end == len(data) or id_ < data[end : end + ID_BYTES]):
            return self._at_within(id_, low, low + 2 * NEAR_RECORDS)
        place = bisect_left(range(count), id_, key=self._id)
        return self._at_within(id_, place, min(place + 1, count))

    def _at_within(self, id_: bytes, low: int, high: int) -> int:
        """Return where, among some records, that of the chunk begins, or -1."""
        base, size = self._chunks_at, RECORD.size
        at, end = base + low * size, base + high * size
        while (at := self._data.find(id_, at, end)) >= 0:
            odd = (at - base) % size
            if not odd:
                return at
            at += size - odd  # these bytes are of two records: chance, or the sealer's malice
        return -1

    def _id(self, place: int) -> bytes:
        at = self._chunks_at + place * RECORD.size
        return self._data[at : at + ID_BYTES]

    def places(self, id_: bytes) -> Iterator[tuple[int, int]]:
        """Yield the number of each record of the id, and the number of its pack."""
        at = self._at(id_)
        if at < 0:
            return
        size, data = RECORD.size, self._data
        while at > self._chunks_at and data[at - size : at - size + ID_BYTES] == id_:
            at -= size
        while at < len(data) and data[at : at + ID_BYTES] == id_:
            (pack,) = _PACK_NUMBER.unpack_from(data, at + ID_BYTES)
            if pack >= self.pack_count:
                raise ObjectDamaged(f"index {self.name} names a pack it does not list")
            yield (at - self._chunks_at) // size, pack
            at += size

    def records(self) -> Iterator[tuple[int, bytes, int, int]]:
        """Yield number, id, pack number and length of every record."""
        view = memoryview(self._data)[self._chunks_at :]
        for number, (id_, pack, _, _, length) in enumerate(RECORD.iter_unpack(view)):
            if pack >= self.pack_count:
                raise ObjectDamaged(f"index {self.name} names a pack it does not list")
            yield number, id_, pack, length

    def packs(self) -> Iterator[PackRow]:
        """Yield the packs."""
        return (self._pack(number) for number in range(self.pack_count))

    def pack_rows(self) -> Iterator[tuple[PackRow, int]]:
        """Yield each pack, and the number in this file of the frame after its last."""
        rows = list(self.packs())
        ends = [*(row.first_frame for row in rows[1:]), self.frame_count]
        return zip(rows, ends, strict=False)  # one end too many where there is no pack

    def frame_bytes(self, start: int, end: int) -> bytes:
        """Return the rows of the frames from `start` to before `end`, as they lie."""
        at = self._frames_at
        return self._data[at + start * FRAME_ROW.size : at + end * FRAME_ROW.size]

    def renumbered(self, packs: Sequence[int | None]) -> Iterator[bytes]:
        """Yield the chunk records in order, pack numbers replaced; None leaves a pack out."""
        last = b""
        for at in range(self._chunks_at, len(self._data), RECORD.size):
            record = self._data[at : at + RECORD.size]
            (old,) = _PACK_NUMBER.unpack_from(record, ID_BYTES)
            id_ = record[:ID_BYTES]
            if old >= len(packs) or id_ < last:
                raise ObjectDamaged(f"index {self.name} has records out of order or of no pack")
            last, new = id_, packs[old]
            if new is not None:
                yield id_ + _PACK_NUMBER.pack(new) + record[_AFTER_PACK:]

    def _check_packs(self) -> None:
        """Raise ObjectDamaged where pack rows are impossible: the sealer may have been hostile."""
        last = 0
        for at in range(HEADER.size, self._frames_at, PACK_ROW.size):
            _, first_frame, kind, _ = PACK_ROW.unpack_from(self._data, at)
            if kind not in _KINDS or not last <= first_frame <= self.frame_count:
                raise ObjectDamaged(f"index {self.name} lists an impossible pack")
            last = first_frame

    def _pack(self, number: int) -> PackRow:
        if number >= self.pack_count:
            raise ObjectDamaged(f"index {self.name} names a pack it does not list")
        at = HEADER.size + number * PACK_ROW.size
        id_, first_frame, kind, size = PACK_ROW.unpack_from(self._data, at)
        return PackRow(PackId(id_), first_frame, PackKind(kind), size)

    def _frame_row(self, number: int) -> FrameRow:
        if number >= self.frame_count:
            raise ObjectDamaged(f"index {self.name} names a frame it does not list")
        return FrameRow._make(
            FRAME_ROW.unpack_from(self._data, self._frames_at + number * FRAME_ROW.size)
        )

    def _frame(self, pack_number: int, frame_number: int) -> FrameLocation:
        latest = self._latest  # small chunks share frames, and are asked for one after another
        if latest is not None and latest[0] == pack_number and latest[1] == frame_number:
            return latest[2]
        found = self._frame_in(pack_number, frame_number)
        self._latest = (pack_number, frame_number, found)
        return found

    def _frame_in(self, pack_number: int, frame_number: int) -> FrameLocation:
        if pack_number >= self.pack_count:
            raise ObjectDamaged(f"index {self.name} names a pack it does not list")
        at = HEADER.size + pack_number * PACK_ROW.size
        pack, first_frame, _, _ = PACK_ROW.unpack_from(self._data, at)
        row = self._frame_row(first_frame + frame_number)
        return FrameLocation(pack, frame_number, row.offset, row.stored, row.plain, row.codec)
