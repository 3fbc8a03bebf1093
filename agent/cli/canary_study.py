"""A canary study: images of a phantom, where and named as their neighbours are.

It has to look like any other study to who encrypts files, and like none to a clinician: a real
archive holds the test images of its machines, too, and nobody is treated for what they show.
"""

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from agent.clock import utc

_HEX: Final = re.compile(r"[0-9a-f]{2}")
_NUMBERS: Final = re.compile(r"[0-9][0-9._-]{3,63}")
_SUFFIXES: Final = ("", ".dcm", ".DCM", ".ima", ".IMA")
_LOOKED_AT: Final = 2000  # names of a source: enough to see how it is laid out
_SIZE, _DAY_S = 256, 86_400
_random = secrets.SystemRandom()


def images(count: int, now_ns: int) -> Iterator[bytes]:
    """Yield the files of a new study, of some day within the last year."""
    day = utc(now_ns) - timedelta(days=_random.randint(20, 350))
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    patient, machine = f"QA{_random.randint(1000, 9999)}", f"CT{_random.randint(1, 4)}"
    for number in range(1, count + 1):
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        dataset.StudyDate = dataset.SeriesDate = f"{day:%Y%m%d}"
        dataset.StudyTime = f"{day:%H%M%S}"
        dataset.AccessionNumber, dataset.Modality, dataset.StationName = "", "CT", machine
        dataset.StudyDescription, dataset.SeriesDescription = "Constancy test", "Water phantom"
        dataset.PatientName, dataset.PatientID = "PHANTOM^WATER", patient
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.StudyID = frame, "1"
        dataset.SeriesNumber, dataset.InstanceNumber = 2, number
        dataset.ImagePositionPatient = [-125, -125, 5 * number]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.98, 0.98], 5
        _add_pixels(dataset)
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        yield file.getvalue()


def _add_pixels(dataset: pydicom.Dataset) -> None:
    """Add a disc of water in air, with noise."""
    noise = np.random.default_rng(secrets.randbits(64)).normal(0, 12, (_SIZE, _SIZE))
    down, across = np.ogrid[:_SIZE, :_SIZE]
    disc = (down - _SIZE // 2) ** 2 + (across - _SIZE // 2) ** 2 < (_SIZE * 3 // 8) ** 2
    dataset.Rows = dataset.Columns = _SIZE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    pixels = np.clip(np.where(disc, 1024, 24) + noise, 0, 4095).astype("<u2")
    dataset.PixelData = pixels.tobytes()


def new_paths(source: Path, count: int) -> list[Path]:
    """Return paths below the source for a study, none of which exists."""
    tops = _directories(source)
    hexes = [name for name in tops if _HEX.fullmatch(name)]
    if any(_has_hexes(source / name) for name in hexes):
        return [_as_orthanc(source) for _ in range(count)]
    directory = source / _directory(tops)
    suffix = _suffix(source)
    return [directory / f"IM{number:05}{suffix}" for number in range(1, count + 1)]


def write_files(source: Path, paths: list[Path], contents: list[bytes], now_ns: int) -> None:
    """Write a study as its source's owner would have, some time ago; raise OSError."""
    owner = source.stat()
    then = now_ns // 10**9 - _random.randint(20 * _DAY_S, 350 * _DAY_S)
    for path, data in zip(paths, contents, strict=True):
        for above in [above for above in reversed(path.parents) if source in above.parents]:
            if not above.exists():
                above.mkdir(mode=owner.st_mode & 0o777)
                os.chown(above, owner.st_uid, owner.st_gid)
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), owner.st_mode & 0o666)
            os.fsync(file.fileno())
        os.utime(path, (then, then))


def _directories(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [
            one.name for one in islice(entries, _LOOKED_AT) if one.is_dir(follow_symlinks=False)
        ]


def _has_hexes(directory: Path) -> bool:
    return any(map(_HEX.fullmatch, _directories(directory)))


def _as_orthanc(source: Path) -> Path:
    """Return a path as Orthanc makes them, among the first in order."""
    digits = "00" + secrets.token_hex(15)
    cuts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return source / digits[:2] / digits[2:4] / "-".join(cuts)


def _directory(siblings: list[str]) -> str:
    """Return a new name: a neighbour's with other last digits, if numbers are all that it has."""
    numbers = [name for name in siblings if _NUMBERS.fullmatch(name)] or ["20230101-1000"]
    digits = 3
    while True:
        shape = secrets.choice(numbers)
        name = shape[:-3] + f"{_random.randint(0, 10**digits - 1):0{digits}}"
        if name not in siblings:
            return name
        digits = min(digits + 1, 9)  # nearly all are taken


def _suffix(source: Path) -> str:
    """Return the suffix that most images of the source have."""
    names = (name for _, _, names in os.walk(source) for name in names)
    found = Counter(Path(name).suffix for name in islice(names, _LOOKED_AT))
    return max(_SUFFIXES, key=lambda suffix: (found[suffix], suffix == ".dcm"))
