"""The scan of a DICOM header: right about real files, cheap and silent about hostile ones."""

import logging
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from agent.encode.dicom import PixelLayout, pixel_layout
from agent.encode.elements import MAX_ELEMENTS, Walk

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
# Cut short, an invalid VR, deflated, no image by its own account: rightly without a layout
ODD = {"MR_truncated.dcm", "badVR.dcm", "image_dfl.dcm"}
SEQUENCE_END = bytes.fromhex("feffdde000000000")


def scan(data: bytes) -> PixelLayout | None:
    """Return the layout of a whole file."""
    return pixel_layout(memoryview(data), len(data))


def real_files() -> Iterator[tuple[str, bytes]]:
    """Yield pydicom's test files, those that are no DICOM included."""
    for path in sorted(TEST_FILES.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()


def ct() -> Dataset:
    """Return a small real image."""
    return pydicom.dcmread(TEST_FILES / "CT_small.dcm")


def written(dataset: Dataset) -> bytes:
    """Return a data set's bytes, with preamble and file meta."""
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def header(*elements: bytes) -> bytes:
    """Return a preamble and explicit elements, the SOP class first."""
    sop_class = struct.pack("<HH2sH", 8, 0x16, b"UI", 2) + b"1\0"
    return bytes(128) + b"DICM" + sop_class + b"".join(elements)


def short(tag: int, value: int) -> bytes:
    """Return an explicit element of one US."""
    return struct.pack("<HH2sHH", tag >> 16, tag & 0xFFFF, b"US", 2, value)


def image(rows: int, columns: int, claimed: int, pixels: bytes, frames: bytes = b"") -> bytes:
    """Return a file of 16-bit pixels whose header claims what it likes."""
    count = struct.pack("<HH2sH", 0x28, 8, b"IS", len(frames)) + frames if frames else b""
    return header(
        count,
        short(0x00280010, rows),
        short(0x00280011, columns),
        short(0x00280100, 16),
        struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, claimed),
        pixels,
    )


@pytest.mark.filterwarnings("ignore")  # some of the files are odd; pydicom warns and logs so
def test_all_real_files_have_their_pixels_where_pydicom_finds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many transfer syntaxes, both byte orders, with and without preamble and meta."""
    monkeypatch.setattr(logging.getLogger("pydicom"), "disabled", True)
    images = 0
    for name, data in real_files():
        layout = scan(data)
        if name in ODD:
            assert layout is None, name
            continue
        try:
            dataset = pydicom.dcmread(BytesIO(data), force=True)
        except (TypeError, ValueError, NotImplementedError, EOFError):
            assert layout is None, name
            continue
        if "PixelData" not in dataset or "Rows" not in dataset:
            assert layout is None, name
            continue
        images += 1
        assert layout is not None, name
        element = dataset["PixelData"]
        assert layout.start == element.file_tell, name
        assert layout.is_encapsulated is element.is_undefined_length, name
        assert (layout.rows, layout.columns) == (dataset.Rows, dataset.Columns), name
        assert layout.frames == int(dataset.get("NumberOfFrames") or 1), name
        if not layout.is_encapsulated:
            assert layout.end - layout.start == layout.frames * layout.frame_bytes, name
            assert 0 <= len(element.value) - (layout.end - layout.start) <= 128, name
    assert images > 80


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"]
)
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences_and_inner_pixels_are_skipped(name: str, undefined: bool) -> None:
    """An icon's pixels, three sequences deep, are not the image's."""
    dataset = pydicom.dcmread(TEST_FILES / name)
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated = 3, 3, 8
    icon.add_new(0x7FE00010, "OB", bytes(10))
    inner = icon
    for _ in range(3):
        outer = Dataset()
        outer.IconImageSequence = Sequence([inner, inner])
        inner.is_undefined_length_sequence_item = undefined
        outer["IconImageSequence"].is_undefined_length = undefined
        inner = outer
    dataset.IconImageSequence = Sequence([inner])
    dataset["IconImageSequence"].is_undefined_length = undefined
    data = written(dataset)
    layout = scan(data)
    assert layout is not None
    assert (layout.rows, layout.columns, layout.bits, layout.item_bytes) == (64, 64, 16, 2)
    assert layout.is_big_endian is ("bigendian" in name)
    assert data[layout.start : layout.end] == dataset.PixelData


def test_frames_of_colour_planes_and_shared_colour_have_their_lengths() -> None:
    """Samples side by side, plane by plane, and two pixels that share their colour."""
    found = {}
    for name in ("SC_rgb_small_odd.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str)
        found[name] = scan(Path(path).read_bytes())
    planes = ct()
    planes.SamplesPerPixel, planes.PlanarConfiguration = 3, 1
    planes.Rows, planes.Columns, planes.BitsAllocated = 10, 20, 8
    planes.PixelData = bytes(600)
    found["planes"] = scan(written(planes))
    shapes = {
        name: (one.frame_bytes, one.row_bytes, one.item_bytes) for name, one in found.items() if one
    }
    assert shapes == {
        "SC_rgb_small_odd.dcm": (27, 9, 3),
        "SC_ybr_full_422_uncompressed.dcm": (20_000, 200, 2),
        "planes": (600, 20, 1),
    }


def test_a_sequence_of_unknown_representation_is_read_as_implicit() -> None:
    """PS3.5 6.2.2: one that passed through an implicit system, kept as UN of undefined length."""
    plain = ct()
    data = written(plain)
    at = data.index(struct.pack("<HH", 0x28, 2))
    item = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0xFFFFFFFF, 0x10, 0x10, 2) + b"AB"
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    unknown = struct.pack("<HH2sHI", 0x27, 0xFFFF, b"UN", 0, 0xFFFFFFFF) + item + end
    layout = scan(data[:at] + unknown + SEQUENCE_END + data[at:])
    plain_layout = scan(data)
    assert layout is not None
    assert plain_layout is not None
    assert layout.start == plain_layout.start + len(unknown) + 8


@given(st.binary(max_size=2000), st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\0\x16\0UI"]))
def test_any_bytes_are_scanned_without_an_error(data: bytes, beginning: bytes) -> None:
    """No bytes raise, and a layout lies within the file."""
    layout = scan(beginning + data)
    if layout is not None:
        assert 0 < layout.start <= layout.end <= len(beginning + data)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"]
)
def test_a_file_cut_short_anywhere_never_raises(name: str) -> None:
    """Before the pixels end there is nothing to cut at; encapsulated ones may end anywhere."""
    data = (TEST_FILES / name).read_bytes()
    whole = scan(data)
    assert whole is not None
    for length in [*range(whole.start + 40), *range(whole.start + 40, len(data), 97)]:
        layout = scan(data[:length])
        assert layout is None or length >= (whole.start if whole.is_encapsulated else whole.end)


@given(st.data())
def test_a_file_with_any_byte_changed_never_raises(draw: st.DataObject) -> None:
    """Lying tags, representations and lengths."""
    data = bytearray((TEST_FILES / "nested_priv_SQ.dcm").read_bytes() + image(4, 4, 32, bytes(32)))
    for _ in range(draw.draw(st.integers(1, 8))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    scan(bytes(data))
    scan(bytes(data[-len(image(4, 4, 32, bytes(32))) :]))


@pytest.mark.parametrize(
    ("make", "frame_bytes"),
    [
        (lambda: image(4, 4, 32, bytes(32)), 32),
        (lambda: image(4, 4, 33, bytes(33)), 32),
        (lambda: image(4, 4, 31, bytes(31)), 0),
        (lambda: image(65535, 65535, 32, bytes(32)), 0),
        (lambda: image(0, 4, 32, bytes(32)), 0),
        (lambda: image(4, 4, 32, bytes(32), b"999999999999"), 0),
        (lambda: image(4, 4, 64, bytes(64), b"2 "), 32),
    ],
)
def test_frames_that_do_not_add_up_are_no_frames(
    make: Callable[[], bytes], frame_bytes: int
) -> None:
    """The pixels' place stands; how frames lie is then not known."""
    layout = scan(make())
    assert layout is not None
    assert layout.frame_bytes == frame_bytes


@pytest.mark.parametrize(
    "data",
    [
        image(4, 4, 33, bytes(32)),
        image(4, 4, 0xFFFFFFFE, bytes(32)),
        image(4, 4, 32, bytes(32), b"many"),
        image(4, 4, 32, bytes(32), b"0 "),
        image(4, 4, 32, bytes(32), b"\xb2 "),
        image(4, 4, 32, bytes(32), b"1" * 4000),
    ],
)
def test_lengths_and_counts_that_cannot_be_are_no_image(data: bytes) -> None:
    """A length beyond the file, and counts that are none."""
    assert scan(data) is None


@pytest.mark.parametrize(
    "element",
    [
        struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF),
        struct.pack("<HH2sHI", 8, 0x1140, b"UN", 0, 0xFFFFFFFF),
        struct.pack("<HHI", 0xFFFE, 0xE000, 0),
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
    ],
)
def test_depth_and_number_cost_bounded_steps_and_no_memory(
    element: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many elements as are looked at, each nested in the one before."""
    steps = 0
    real = Walk._element

    def counted(self: Walk, *, is_explicit: bool) -> tuple[int, int, bool]:
        nonlocal steps
        steps += 1
        return real(self, is_explicit=is_explicit)

    monkeypatch.setattr(Walk, "_element", counted)
    opening = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    data = header(opening, element * (2 * MAX_ELEMENTS))
    tracemalloc.start()
    assert scan(data) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps <= MAX_ELEMENTS + 1
    assert peak < 64 * 1024


def test_what_is_no_image_by_the_end_of_its_group_is_not_walked_further() -> None:
    """A report or a plan has thousands of elements behind, and no pixels."""
    report = header(struct.pack("<HH2sHI", 0x40, 0xA730, b"SQ", 0, 0xFFFFFFFF), b"\xff" * 100)
    assert scan(report) is None
