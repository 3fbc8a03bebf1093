"""The day after: new studies, merged patients, addenda, deletions, renames, a changed database.

    python -m benchmarks.next_day DIR [--seed 2]

A merge does what Orthanc does: the image with the corrected header is a new file at a new path,
and the old file goes.  The same tree and seed come to the same bytes.
"""

import argparse
import sqlite3
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import pydicom

from benchmarks import database
from benchmarks.database import StoredImage, StoredRecord
from benchmarks.hospital import Part, add_records, add_study, new_path, write
from benchmarks.images import Study, uid
from benchmarks.records import addendum

_TODAY = "20260301"
_NEW = 0.05  # of the studies there were
_MERGED, _DELETED = 0.06, 0.01
_NEW_RECORDS, _ADDENDA = 0.02, 0.01
_RECORDS_GONE, _RECORDS_RENAMED = 0.002, 0.005
_CHANGED_EVENTS = 400
_ADDED_EVENTS = 2_000
_NEW_PARTS = (Part("CT", 40), Part("MR", 40), Part("CR", 1), Part("compressed", 8))

Chosen = TypeVar("Chosen")


class Changes(NamedTuple):
    """What happened, in files; paths are relative to the tree."""

    added: tuple[str, ...]  # new images and records
    merged: tuple[tuple[str, str], ...]  # old path, new path
    appended: tuple[str, ...]
    deleted: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]  # old path, new path


def next_day(tree: Path, seed: int) -> Changes:
    """Change a tree that `hospital.generate` made, as a day's work would."""
    random = Random(f"next day/{seed}")
    with database.opened(tree) as db:
        studies = random.sample(before := database.studies(db), len(before))
        merged, deleted = _share(studies, _MERGED), _share(studies[::-1], _DELETED)
        merges = _merge(tree, db, random, merged)
        deletions = _delete_studies(tree, db, deleted)
        records = database.records(db)
        appended, gone, renamed = _change_records(tree, db, random, records)
        added = _add(tree, db, random, len(before), len(records))
        database.change_events(db, random, _CHANGED_EVENTS)
        database.log_events(db, random, _ADDED_EVENTS)
    return Changes(added, merges, appended, deletions + gone, renamed)


def _share(among: Sequence[Chosen], share: float) -> Sequence[Chosen]:
    """Return the first part of a shuffled list: at least one."""
    return among[: max(1, round(len(among) * share))]


def _merge(
    tree: Path, db: sqlite3.Connection, random: Random, studies: Sequence[Study]
) -> tuple[tuple[str, str], ...]:
    """Give studies to another patient: new headers at new paths, old files gone."""
    moves = []
    for study in studies:
        patient = f"M{random.randrange(10**6):06}"
        for image in database.images(db, study.uid):
            dataset = pydicom.dcmread(tree / image.path)
            dataset.PatientID, dataset.PatientName = patient, f"Synthetic^{patient}^Corrected"
            file = BytesIO()
            dataset.save_as(file)
            path = new_path(random)
            write(tree / path, file.getvalue())
            (tree / image.path).unlink()
            database.move_image(db, image, path, len(file.getvalue()))
            moves.append((image.path, path))
        row = (patient, f"Synthetic^{patient}^Corrected", study.uid)
        db.execute("UPDATE studies SET patient_id = ?, patient_name = ? WHERE uid = ?", row)
    return tuple(moves)


def _delete_studies(
    tree: Path, db: sqlite3.Connection, studies: Sequence[Study]
) -> tuple[str, ...]:
    gone = []
    for study in studies:
        for image in database.images(db, study.uid):
            (tree / image.path).unlink()
            gone.append(image.path)
        db.execute("DELETE FROM images WHERE study = ?", (study.uid,))
        db.execute("DELETE FROM studies WHERE uid = ?", (study.uid,))
    return tuple(gone)


def _change_records(
    tree: Path, db: sqlite3.Connection, random: Random, records: Sequence[StoredRecord]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Append to some records, delete some and move some to the archive; return which."""
    mixed = random.sample(records, len(records))
    appended = [record.path for record in _share(mixed, _ADDENDA)]
    rest = mixed[len(appended) :]
    gone = [record.path for record in _share(rest, _RECORDS_GONE)]
    old = [record.path for record in _share(rest[len(gone) :], _RECORDS_RENAMED)]
    for path in appended:
        with (tree / path).open("ab") as file:
            file.write(addendum(random, _TODAY))
    for path in gone:
        (tree / path).unlink()
        db.execute("DELETE FROM records WHERE path = ?", (path,))
    renamed = [(path, f"records/archive/{Path(path).name}") for path in old]
    (tree / "records/archive").mkdir(exist_ok=True)
    for path, new in renamed:
        (tree / path).rename(tree / new)
        db.execute("UPDATE records SET path = ? WHERE path = ?", (new, path))
    return tuple(appended), tuple(gone), tuple(renamed)


def _add(
    tree: Path, db: sqlite3.Connection, random: Random, studies: int, records: int
) -> tuple[str, ...]:
    """Add the day's new studies, as large as the tree's own, and new records."""
    rows: list[StoredImage] = []
    largest = db.execute(
        "SELECT max(count) FROM (SELECT count(*) AS count FROM images GROUP BY study)"
    ).fetchone()[0]
    for number in range(max(1, round(studies * _NEW))):
        part = _NEW_PARTS[number % len(_NEW_PARTS)]
        patient = f"N{number:06}"
        study = Study(uid(random), patient, f"Synthetic^{patient}", _TODAY, f"N{number:07}")
        part = part._replace(files=min(part.files, largest))
        rows += add_study(tree, db, random, study, part)
    count = max(1, round(records * _NEW_RECORDS))
    first = db.execute("SELECT max(rowid) FROM records").fetchone()[0]
    new = add_records(tree, db, random, count, first)
    return tuple(row.path for row in rows) + tuple(row.path for row in new)


def main() -> None:
    """Change a tree, and print what was changed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.next_day", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    changes = next_day(arguments.directory, arguments.seed)
    print(", ".join(f"{len(paths)} {what}" for what, paths in changes._asdict().items()))


if __name__ == "__main__":
    main()
