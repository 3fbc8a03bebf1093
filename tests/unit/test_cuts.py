"""Cuts of images: any bytes come back, an edited header costs itself, frames keep their bounds."""

import os
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEG2000Lossless

from agent.backup.listing import Found
from agent.backup.read import BUFFER_BYTES, FileReader
from agent.clock import SystemClock
from agent.crypto.naming import IdKey
from agent.encode.chunker import MAX_CHUNK_BYTES, Chunker
from agent.encode.cuts import GROUP_BYTES, LOOK_AHEAD_BYTES, MIN_PIXEL_BYTES, cuts_of
from agent.encode.dicom import pixel_layout
from agent.model.ids import TreeId

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
IDS = IdKey(bytes(range(32)))
CHUNKER = Chunker(IDS.cut_seed)
KiB = 1024
MiB = 1024 * KiB
NOISE = os.urandom(40 * MiB)
HEADER_BYTES = 8 * KiB  # more than that of any file here


def cut(data: bytes) -> list[bytes]:
    """Return the chunks of a file that is in memory as a whole."""
    view = memoryview(data)
    return [bytes(chunk) for chunk in cuts_of(pixel_layout(view, len(data)), CHUNKER).cut(view)]


def streamed(data: bytes, buffer_bytes: int) -> list[bytes]:
    """Return the chunks of a file that passes through a buffer, as the reader does it."""
    cuts = cuts_of(pixel_layout(memoryview(data)[:buffer_bytes], len(data)), CHUNKER)
    chunks: list[bytes] = []
    start, end = 0, min(buffer_bytes, len(data))
    while end < len(data):
        found = [bytes(chunk) for chunk in cuts.cut_some(memoryview(data)[start:end])]
        assert found
        chunks += found
        start += sum(map(len, found))
        end = min(start + buffer_bytes, len(data))
    return chunks + [bytes(chunk) for chunk in cuts.cut(memoryview(data)[start:])]


def untrailed() -> Dataset:
    """Return a real image that ends with its pixels."""
    dataset = pydicom.dcmread(TEST_FILES / "CT_small.dcm")
    del dataset[0xFFFCFFFC]
    return dataset


def native(rows: int, columns: int, frames: int = 1, bits: int = 16) -> Dataset:
    """Return an image of noise."""
    dataset = untrailed()
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset.BitsAllocated = bits
    dataset.PixelData = NOISE[: rows * columns * frames * bits // 8]
    return dataset


def compressed(*frames: int, extended: bool = False) -> Dataset:
    """Return an image of encapsulated noise, an item of each length."""
    dataset = untrailed()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    parts, at = [], 0
    for length in frames:
        parts.append(NOISE[at : at + length])
        at += length
    if extended:
        dataset.PixelData, table, lengths = encapsulate_extended(parts)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table, lengths
    else:
        dataset.PixelData = encapsulate(parts)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dataset


def written(dataset: Dataset) -> bytes:
    """Return an image's bytes."""
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


IMAGES = {
    "small": lambda: native(128, 128),
    "a slice": lambda: native(512, 512),
    "many small frames": lambda: native(64, 64, 1000),
    "frames of a megabyte": lambda: native(1024, 1024, 20, 8),
    "frames larger than a chunk": lambda: native(2000, 1500, 6),
    "odd": lambda: native(301, 201, 1, 8),
    "one item": lambda: compressed(300_000),
    "a loop": lambda: compressed(*[20_000] * 900),
    "one long item": lambda: compressed(19 * MiB),
    "long and short": lambda: compressed(5 * MiB, 10, 5 * MiB, MAX_CHUNK_BYTES, 8, 8, 5 * MiB),
    "tiny items": lambda: compressed(*[2] * 20_000, 4096),
    "extended offsets": lambda: compressed(*[20_000] * 30, extended=True),
}


@pytest.mark.parametrize("name", IMAGES)
def test_chunks_join_to_the_file_through_any_buffer(name: str) -> None:
    """The same cuts whether a file is in memory or streams by; none is empty or too large."""
    data = written(IMAGES[name]())
    chunks = cut(data)
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= LOOK_AHEAD_BYTES for chunk in chunks)
    for buffer_bytes in (LOOK_AHEAD_BYTES + 1, 2 * LOOK_AHEAD_BYTES, BUFFER_BYTES):
        assert streamed(data, buffer_bytes) == chunks


@given(st.binary(max_size=3000), st.booleans(), st.integers(0, 500))
def test_any_bytes_behind_a_header_come_back(data: bytes, encapsulated: bool, times: int) -> None:
    """Items that are none, and frames that are not there."""
    image = written(compressed(5000) if encapsulated else native(64, 64))
    layout = pixel_layout(memoryview(image), len(image))
    assert layout is not None
    for start in (layout.start, layout.start + 8, layout.start + 5000):
        hostile = image[:start] + data * times
        assert b"".join(cut(hostile)) == hostile


def test_all_real_files_come_back() -> None:
    """Whatever they hold, and wherever they were cut short."""
    for path in TEST_FILES.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for length in (len(data), len(data) - 1, len(data) // 2):
                assert b"".join(cut(data[:length])) == data[:length]


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "tiny items"])
def test_an_edited_patient_costs_the_header(name: str) -> None:
    """Another length of name and number: all chunks but the first are known."""
    dataset = IMAGES[name]()
    known = set(cut(written(dataset)))
    dataset.PatientName = "Merged^With^A^Longer^Name" * 2
    dataset.PatientID = "4711"
    dataset.OtherPatientIDs = "1CT1"
    new = [chunk for chunk in cut(written(dataset)) if chunk not in known]
    assert len(new) == 1
    assert len(new[0]) < HEADER_BYTES


def test_what_follows_the_pixels_is_a_chunk_of_its_own() -> None:
    """A signature that changes costs itself."""
    for dataset in (native(301, 201, 1, 8), compressed(300_000)):
        dataset.add_new(0xFFFCFFFC, "OB", b"trailing padding")
        data = written(dataset)
        header, pixels, trailer = cut(data)
        assert len(header) < HEADER_BYTES
        assert len(pixels) > 60_000
        assert trailer.startswith(b"\xfc\xff\xfc\xff" if len(pixels) > 300_000 else b"\0\xfc\xff")


def test_frames_keep_their_bounds() -> None:
    """Small ones are grouped, those of a chunk's size stand alone, large ones are whole rows."""
    for dataset, unit in (
        (native(64, 64, 1000), 64 * 64 * 2),
        (native(1024, 1024, 20, 8), 1024 * 1024),
        (native(1000, 1500, 6), 1000 * 1500 * 2),
        (native(2000, 1500, 6), 1500 * 2),
    ):
        _, *frames = cut(written(dataset))
        assert all(len(frame) % unit == 0 for frame in frames)
        assert max(map(len, frames)) <= max(GROUP_BYTES, unit)


def test_items_keep_their_bounds() -> None:
    """A chunk of encapsulated pixels begins where an item does, unless the item is a long one."""
    _, *frames = cut(written(compressed(*[20_000] * 900)))
    assert all(frame.startswith(b"\xfe\xff\x00\xe0") for frame in frames)
    assert all(len(frame) > GROUP_BYTES - 20_008 for frame in frames[:-1])


def test_pixels_too_few_to_profit_stay_with_their_header() -> None:
    """Each chunk costs an index entry."""
    side = 32
    assert 2 * side * side < MIN_PIXEL_BYTES
    assert len(cut(written(native(side, side)))) == 1


class MemorySink:
    """Keeps chunks in order."""

    def __init__(self) -> None:
        """Start empty."""
        self.chunks: list[bytes] = []

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Keep a chunk."""
        self.chunks.append(bytes(data))
        return IDS.chunk_id(data)

    def page(self, page: bytes) -> TreeId:
        """Name a page."""
        return IDS.tree_id(page)


@pytest.mark.parametrize("name", ["small", "frames of a megabyte", "one long item"])
def test_the_reader_cuts_images_whether_or_not_they_fit_its_buffer(
    name: str, tmp_path: Path
) -> None:
    """What is backed up is what is tested above."""
    data = written(IMAGES[name]())
    (tmp_path / "f").write_bytes(data)
    sink = MemorySink()
    reader = FileReader(CHUNKER, sink, SystemClock(), lambda: None)
    directory = os.open(tmp_path, os.O_RDONLY)
    found = Found(b"f", os.lstat(tmp_path / "f"))
    entry = reader.read(directory, found, found.stat.st_dev)
    os.close(directory)
    assert entry is not None
    assert entry.size == len(data)
    assert sink.chunks == cut(data)
    assert len(sink.chunks[0]) < HEADER_BYTES
