"""What restored files are to the programs that use them: a PACS, DICOM parsers, databases.

    python -m agent.drill.inspect RESTORED SCRATCH [--no-pacs]      prints one JSON object of counts

Runs as a process of its own, without keys and with bounded memory: it parses what patients' images
and databases hold, and some of that may be hostile.
"""

import os
import resource
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pydicom

from agent.clock import SystemClock
from agent.drill import pacs
from agent.drill.pacs import Counted
from agent.errors import DrillFailed

MAX_MEMORY_BYTES = 2 * 1024**3
_MAGIC_AT, _DICOM_MAGIC = 128, b"DICM"
_SQLITE_MAGIC = b"SQLite format 3\0"
_DEFER_BYTES = 64 * 1024  # values beyond that are left on the disk: pixels


class Inspected(msgspec.Struct, frozen=True):
    """Counts; never a name."""

    images: int = 0
    images_failed: int = 0
    patients: int = 0
    studies: int = 0
    instances: int = 0
    databases: int = 0
    databases_failed: int = 0
    pacs: Counted = Counted()
    problem: str = ""  # what kept the PACS from counting


class _Identities:
    """Who and what the images are about, to be counted."""

    def __init__(self) -> None:
        self.patients: set[str] = set()
        self.studies: set[str] = set()
        self.instances: set[str] = set()

    def add(self, dataset: pydicom.Dataset) -> None:
        for known, keyword in (
            (self.patients, "PatientID"),
            (self.studies, "StudyInstanceUID"),
            (self.instances, "SOPInstanceUID"),
        ):
            value = str(dataset.get(keyword) or "")
            if value:
                known.add(value)


def inspect(directory: Path) -> Inspected:
    """Return what the files below `directory` are."""
    images = failed = databases = broken = 0
    identities = _Identities()
    for path in _files(directory):
        with path.open("rb") as file:
            head = file.read(_MAGIC_AT + len(_DICOM_MAGIC))
        if head[_MAGIC_AT:] == _DICOM_MAGIC:
            images += 1
            failed += not _parses(path, identities)
        elif head.startswith(_SQLITE_MAGIC):
            databases += 1
            broken += not _opens(path)
    return Inspected(
        images=images,
        images_failed=failed,
        patients=len(identities.patients),
        studies=len(identities.studies),
        instances=len(identities.instances),
        databases=databases,
        databases_failed=broken,
    )


def _parses(path: Path, identities: _Identities) -> bool:
    """Tell whether a DICOM file parses to its end and says which one it is (PS3.10)."""
    try:
        dataset = pydicom.dcmread(path, defer_size=_DEFER_BYTES)
        identities.add(dataset)
        named = dataset.get("SOPInstanceUID") or dataset.file_meta.get("MediaStorageSOPInstanceUID")
    except Exception:  # noqa: BLE001 - whatever a parser raises, the image does not parse
        return False
    return bool(named)


def _opens(path: Path) -> bool:
    """Tell whether a SQLite database, with its write-ahead log if there is one, is consistent."""
    try:
        with closing(sqlite3.connect(path)) as database:
            (answer,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error:
        return False
    return bool(answer == "ok")


def _files(directory: Path) -> Iterator[Path]:
    for above, _, names in os.walk(directory):
        for name in names:
            path = Path(above, name)
            if path.is_file() and not path.is_symlink():
                yield path


def main() -> None:
    """Inspect one directory, with a scratch directory for the PACS."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    restored, scratch, *options = sys.argv[1:]
    counted, problem = Counted(), ""
    try:
        if "--no-pacs" not in options:
            counted = pacs.count(Path(restored), Path(scratch), SystemClock())
    except DrillFailed as error:
        problem = error.message
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    found = msgspec.structs.replace(inspect(Path(restored)), pacs=counted, problem=problem)
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main()
