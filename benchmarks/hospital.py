"""A hospital-like tree, synthetic: painted images as Orthanc lays them out, records, a database.

    python -m benchmarks.hospital DIR [--files 21000] [--bytes 1.3G] [--seed 1]

Below DIR: pacs/XX/YY/<uuid>, records/<year>/<month>/<day>/<name>, database/hospital.sqlite.
The same seed makes the same bytes.  Every name and text in it is invented.
"""

import argparse
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks import database, images, painters
from benchmarks.database import StoredImage, StoredRecord
from benchmarks.images import Image, Study
from benchmarks.records import MAKERS

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_RECORDS = 0.81  # of all files
_COMPRESSED = 0.15  # of all images; the rest is what its scanner wrote, uncompressed
_DATABASE = 0.04  # of all bytes
_XA, _US, _CR = 0.10, 0.06, 0.06  # of all bytes
_XA_FRAMES, _US_FRAMES = 60, 30
_SERIES = 60  # images a series, at most
_COMPRESSED_SERIES = 12
_RECORD_BYTES = 3_000  # the mean, to reckon with
_COMPRESSED_BYTES = 80_000  # as above


class Plan(NamedTuple):
    """How many of what; loops and the rest are in files."""

    records: int
    database_bytes: int
    xa: int
    xa_frames: int
    us: int
    us_frames: int
    cr: int
    compressed: int
    ct: int
    mr: int


def plan(files: int, size: int) -> Plan:
    """Share out files and bytes; small trees get shorter loops, and at least one of each kind."""
    records = round(files * _RECORDS)
    pictures = files - records - 1
    xa, xa_frames = _loops(size * _XA, painters.XA.frame_bytes, _XA_FRAMES)
    us, us_frames = _loops(size * _US, painters.US.frame_bytes, _US_FRAMES)
    cr = max(1, round(size * _CR / painters.CR.frame_bytes))
    compressed = max(1, round(pictures * _COMPRESSED))
    slices = pictures - xa - us - cr - compressed
    left = size * (1 - _DATABASE - _XA - _US - _CR)
    left -= records * _RECORD_BYTES + compressed * _COMPRESSED_BYTES
    ct_bytes, mr_bytes = painters.CT.frame_bytes, painters.MR.frame_bytes
    ct = round((left - slices * mr_bytes) / (ct_bytes - mr_bytes))
    ct = min(max(ct, 1), slices - 1)
    if slices < 2:
        raise ValueError("too few files for such a tree")
    database_bytes = round(size * _DATABASE)
    mr = slices - ct
    return Plan(records, database_bytes, xa, xa_frames, us, us_frames, cr, compressed, ct, mr)


def _loops(size: float, frame_bytes: int, frames: int) -> tuple[int, int]:
    """Return how many loops of how many frames take `size` bytes."""
    frames = min(frames, max(2, int(size / frame_bytes)))
    return max(1, round(size / (frames * frame_bytes))), frames


def generate(tree: Path, files: int, size: int, seed: int) -> None:
    """Make a tree of about `size` bytes in exactly `files` files."""
    shares = plan(files, size)
    with database.opened(tree) as db:
        for number, part in enumerate(_parts(shares)):
            random = Random(f"{seed}/{number}")
            add_study(tree, db, random, _a_study(random, number), part)
        random = Random(f"{seed}/records")
        add_records(tree, db, random, shares.records, 0)
        database.fill(db, random, shares.database_bytes)


class Part(NamedTuple):
    """One series to make: what, how many files, how many frames in each."""

    kind: str
    files: int
    frames: int = 1


def _parts(shares: Plan) -> Iterator[Part]:
    """Yield the tree's series."""
    for kind, count, longest in (
        ("CT", shares.ct, _SERIES),
        ("MR", shares.mr, _SERIES),
        ("CR", shares.cr, 2),
        ("compressed", shares.compressed, _COMPRESSED_SERIES),
    ):
        for at in range(0, count, longest):
            yield Part(kind, min(longest, count - at))
    yield from (Part("XA", 1, shares.xa_frames) for _ in range(shares.xa))
    yield from (Part("US", 1, shares.us_frames) for _ in range(shares.us))


def _a_study(random: Random, number: int) -> Study:
    date = f"2025{random.randrange(1, 13):02}{random.randrange(1, 29):02}"
    patient = f"P{number:06}"
    return Study(images.uid(random), patient, f"Synthetic^{patient}", date, f"A{number:07}")


def add_study(
    tree: Path, db: sqlite3.Connection, random: Random, study: Study, part: Part
) -> list[StoredImage]:
    """Write one study's images, and note them."""
    rows = []
    for image in _series(study, part, random):
        path = new_path(random)
        write(tree / path, image.data)
        rows.append(StoredImage(image.sop_uid, study.uid, image.modality, path, len(image.data)))
    database.add_study(db, study, rows)
    return rows


def _series(study: Study, part: Part, random: Random) -> Iterable[Image]:
    if part.kind == "compressed":
        name = random.choices(*zip(*images.COMPRESSED.items(), strict=True))[0]
        return images.compressed(study, name, random, part.files)
    modality = getattr(painters, part.kind)
    if part.frames > 1:
        return [images.loop(study, modality, random, part.frames)]
    return images.painted(study, modality, random, part.files)


def new_path(random: Random) -> str:
    """Return where Orthanc would put its next file."""
    name = str(uuid.UUID(int=random.getrandbits(128), version=4))
    return f"pacs/{name[:2]}/{name[2:4]}/{name}"


def add_records(
    tree: Path, db: sqlite3.Connection, random: Random, count: int, first: int
) -> list[StoredRecord]:
    """Write records, about a hundred a day, and note them."""
    rows = []
    kinds = tuple(MAKERS)
    for number in range(first, first + count):
        day = number // 100
        date = f"{2024 + day // 336}{day // 28 % 12 + 1:02}{day % 28 + 1:02}"
        kind, patient = random.choice(kinds), f"P{random.randrange(max(1, count // 20)):06}"
        path = f"records/{date[:4]}/{date[4:6]}/{date[6:]}/{patient}-{number:07}.{kind}"
        write(tree / path, MAKERS[kind](random, patient, date))
        rows.append(StoredRecord(path, kind, patient))
    database.add_records(db, rows)
    return rows


def write(path: Path, data: bytes) -> None:
    """Write a file, its directory made where it is missing."""
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def size_of(text: str) -> int:
    """Return what `1.3G` means in bytes."""
    number = text.rstrip("KMG")
    return round(float(number) * _UNITS[text[len(number) :]])


def main() -> None:
    """Make a tree, or its next day."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hospital", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--files", type=int, default=21_000)
    parser.add_argument("--bytes", type=size_of, default=size_of("1.3G"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generate(arguments.directory, arguments.files, arguments.bytes, arguments.seed)


if __name__ == "__main__":
    main()
