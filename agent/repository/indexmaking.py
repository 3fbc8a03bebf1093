"""The plaintext of index objects: made of what packs hold, or of other index objects.

The layout is that of agent/repository/indexfile.py.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from agent.model.ids import IndexId, PackId
from agent.repository.indexfile import HEADER, MAGIC, PACK_ROW, RECORD, VERSION, IndexFile
from agent.repository.pack import FRAME_ROW, Contents, FrameRow

_TOGETHER = 8192


def encode(packs: Sequence[Contents], supersedes: Sequence[IndexId] = ()) -> bytes:
    """Return the plaintext of an index object over whole packs."""
    rows: list[bytes] = []
    frames: list[FrameRow] = []
    records: list[bytes] = []
    for number, contents in enumerate(packs):
        rows.append(PACK_ROW.pack(contents.pack, len(frames), contents.kind, contents.size))
        frames += contents.frames
        records += [
            RECORD.pack(chunk.id, number, chunk.frame, chunk.offset, chunk.length)
            for chunk in contents.chunks
        ]
    records.sort()
    head = HEADER.pack(MAGIC, VERSION, len(rows), len(frames), len(supersedes), len(records))
    frame_rows = (FRAME_ROW.pack(*frame) for frame in frames)
    return b"".join((head, *rows, *frame_rows, *supersedes, *records))


def merge(files: Sequence[IndexFile], without: Collection[PackId] = ()) -> bytes:
    """Return the plaintext of one index object that holds what `files` hold, a pack once.

    Packs in `without` are left out.  It supersedes them, and whatever they superseded: a reader
    needs to open no other object to know.  Costs twice the memory of the result, as sealing does,
    for records are merged as they lie.
    """
    rows: list[bytes] = []
    frames: list[bytes] = []
    first_frame = 0
    numbers: dict[PackId, int] = {}
    streams: list[Iterator[bytes]] = []
    for file in files:
        mapping: list[int | None] = []
        for row, end in file.pack_rows():
            if row.id in numbers or row.id in without:
                mapping.append(None)
                continue
            mapping.append(len(rows))
            numbers[row.id] = len(rows)
            rows.append(PACK_ROW.pack(row.id, first_frame, row.kind, row.size))
            frames.append(file.frame_bytes(row.first_frame, end))
            first_frame += end - row.first_frame
        streams.append(file.renumbered(mapping))
    gone = sorted({file.id for file in files} | {old for file in files for old in file.supersedes})
    merged = bytearray().join((bytes(HEADER.size), *rows, *frames, *gone))
    before = len(merged)
    for some in _batches(heapq.merge(*streams)):
        merged += some
    records = (len(merged) - before) // RECORD.size
    HEADER.pack_into(merged, 0, MAGIC, VERSION, len(rows), first_frame, len(gone), records)
    return bytes(merged)


def _batches(records: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the records, so many together that joining them does not hold all at once."""
    while some := b"".join(islice(records, _TOGETHER)):
        yield some
