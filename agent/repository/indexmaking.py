"""The plaintext of index objects: made of what packs hold, or of other index objects.

Costs the memory of the result; the layout is that of agent/repository/indexfile.py.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence

from agent.model.ids import IndexId, PackId
from agent.repository.indexfile import HEADER, MAGIC, PACK_ROW, RECORD, VERSION, IndexFile
from agent.repository.pack import FRAME_ROW, Contents, FrameRow


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
    needs to open no other object to know.  Costs the memory of the result and no more, for records
    are merged as they lie.
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
    records = bytearray().join(heapq.merge(*streams))
    gone = sorted({file.id for file in files} | {old for file in files for old in file.supersedes})
    head = HEADER.pack(
        MAGIC, VERSION, len(rows), first_frame, len(gone), len(records) // RECORD.size
    )
    return b"".join((head, *rows, *frames, *gone, records))
