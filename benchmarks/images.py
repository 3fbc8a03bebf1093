"""DICOM files: a real header with other identities, over painted or re-used compressed pixels."""

import re
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from random import Random
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian

from benchmarks.painters import TEST_FILES, Modality

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_SCAN = re.compile(rb"\xff\xda..|\xff\x93", re.DOTALL)  # where JPEG's or JPEG 2000's data begin
# A permutation within these keeps what a decoder looks for: markers, and what may follow 0xFF.
_FREE = (range(1, 0x80), range(0xA0, 0xD0))

COMPRESSED: Mapping[str, int] = {  # test file → how often it is taken
    "J2K_pixelrep_mismatch.dcm": 8,  # CT, JPEG 2000 lossless
    "examples_jpeg2k.dcm": 3,  # ultrasound in colour, JPEG 2000 lossless
    "examples_ybr_color.dcm": 2,  # ultrasound loop, JPEG baseline
    "JPEG-lossy.dcm": 2,  # nuclear medicine, JPEG extended
    "MR_small_jp2klossless.dcm": 3,
    "MR_small_jpeg_ls_lossless.dcm": 3,
    "SC_rgb_jpeg_gdcm.dcm": 1,  # JPEG lossless
    "MR_small_RLE.dcm": 2,
}


class Study(NamedTuple):
    """What all images of one visit share."""

    uid: str
    patient_id: str
    patient_name: str
    date: str  # YYYYMMDD
    accession: str


class Image(NamedTuple):
    """One encoded file, and what a PACS's database knows of it."""

    sop_uid: str
    modality: str
    data: bytes


def uid(random: Random) -> str:
    """Return a UID derived from a UUID (ITU-T X.667), as DICOM allows."""
    return f"2.25.{random.getrandbits(120)}"


def painted(study: Study, modality: Modality, random: Random, count: int) -> Iterator[Image]:
    """Yield one series of `count` single pictures."""
    series = uid(random)
    for number, pixels in enumerate(modality.paint(random, count), 1):
        header = _native(modality)
        yield _image(header, study, series, number, random, _element(modality, pixels))


def loop(study: Study, modality: Modality, random: Random, frames: int) -> Image:
    """Return one file of many frames."""
    header = _native(modality)
    header.NumberOfFrames = frames
    pixels = b"".join(modality.paint(random, frames))
    return _image(header, study, uid(random), 1, random, _element(modality, pixels))


def compressed(study: Study, name: str, random: Random, count: int) -> Iterator[Image]:
    """Yield a series of files whose compressed pixels are a real file's, each made unlike others.

    The scan's bytes are exchanged by a permutation of each file's own: markers, lengths and
    entropy stay those of the real file, while no two files share pixel data.  What a decoder would
    show is noise.  RLE, whose counts are bytes among the data, is used as it is.
    """
    series = uid(random)
    for number in range(1, count + 1):
        header, frames = _real_frames(name)
        if "RLE" not in name:
            table = _permutation(random)
            frames = [_exchanged(frame, table) for frame in frames]
        element = _element_start(b"OB", _UNDEFINED) + encapsulate(frames)
        ending = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        yield _image(header, study, series, number, random, element + ending)


def _image(
    header: Dataset, study: Study, series: str, number: int, random: Random, pixels: bytes
) -> Image:
    header.StudyInstanceUID = study.uid
    header.SeriesInstanceUID = series
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = UID(uid(random))
    header.PatientID, header.PatientName = study.patient_id, study.patient_name
    header.StudyDate, header.AccessionNumber = study.date, study.accession
    header.InstanceNumber = number
    file = BytesIO()
    header.save_as(file, enforce_file_format=True)
    file.write(pixels)
    return Image(header.SOPInstanceUID, header.get("Modality", "OT"), file.getvalue())


@cache
def _native(modality: Modality) -> Dataset:
    """Return a header, the same each time: every image overwrites what is its own."""
    header = _header(modality.template)
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = UID(modality.sop_class)
    header.Modality = modality.name
    header.Rows, header.Columns = modality.rows, modality.columns
    if modality.samples == 1:
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.PixelRepresentation = 0
    return header


def _header(template: str) -> Dataset:
    """Return a test file's data set up to its pixels."""
    header = pydicom.dcmread(TEST_FILES / template)
    for tag in [tag for tag in header.keys() if tag >= _PIXEL_DATA]:  # noqa: SIM118 - a Dataset iterates its elements
        del header[tag]
    return header


@cache
def _real_frames(name: str) -> tuple[Dataset, list[bytes]]:
    dataset = pydicom.dcmread(TEST_FILES / name)
    count = int(dataset.get("NumberOfFrames") or 1)
    header = _header(name)
    if "Modality" not in header:
        header.Modality = "OT"
    return header, list(generate_frames(dataset.PixelData, number_of_frames=count))


def _permutation(random: Random) -> bytes:
    table = list(range(256))
    for free in _FREE:
        table[free.start : free.stop] = random.sample(free, len(free))
    return bytes(table)


def _exchanged(frame: bytes, table: bytes) -> bytes:
    start = _SCAN.search(frame)
    if start is None:
        raise ValueError("this codestream has no scan")
    at = start.end()
    if frame[start.start() + 1] == 0xDA:
        at += int.from_bytes(frame[at - 2 : at], "big") - 2  # the rest of the scan's header
    return frame[:at] + frame[at:].translate(table)


def _element(modality: Modality, pixels: bytes) -> bytes:
    return _element_start(b"OW" if modality.lane_bytes == 2 else b"OB", len(pixels)) + pixels


def _element_start(representation: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, representation, 0, length)
