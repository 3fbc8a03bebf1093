"""Who a DICOM file is about: as pydicom reads it, bounded, absent where anything is odd, sealed."""

import logging
import os
import struct
from io import BytesIO
from pathlib import Path

import msgspec
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from agent.backup.listing import Found
from agent.backup.read import BUFFER_BYTES, FileReader
from agent.clock import SystemClock
from agent.crypto.naming import IdKey
from agent.encode.chunker import Chunker
from agent.encode.dicom import read_header
from agent.errors import ObjectDamaged
from agent.model.ids import TreeId
from agent.model.tree import DicomIdentity, Entry, TreePage, decode_page, encode_page
from agent.repository.trees import entry_weight
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.vaults import walk

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
TAGS = (0x0020000D, 0x0020000E, 0x00080018, 0x00100020, 0x00080060)
IDS = IdKey(bytes(range(32)))


def identity(data: bytes) -> DicomIdentity | None:
    """Return what a whole file says."""
    return read_header(memoryview(data), len(data)).identity


def by_pydicom(data: bytes) -> DicomIdentity | None:
    """Return what pydicom finds in a file, the values' bytes as they are; None for nothing."""
    try:
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        values = [dataset.get_item(tag) for tag in TAGS]
    except (TypeError, ValueError, NotImplementedError, EOFError, AttributeError):
        return None
    found = DicomIdentity(*(_raw(getattr(value, "value", None)).strip(b" \0") for value in values))
    return found if found != DicomIdentity() else None


def _raw(value: object) -> bytes:
    """Return a value as it lies in the file; it is a string only in the file meta's copies."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b""


def ct(**values: str) -> bytes:
    """Return a small real image with other values."""
    dataset = pydicom.dcmread(TEST_FILES / "CT_small.dcm")
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def text(tag: int, value: bytes) -> bytes:
    """Return an explicit element of text."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"LO", len(value)) + value


@pytest.mark.filterwarnings("ignore")  # some of the files are odd; pydicom warns and logs so
def test_all_real_files_are_about_whom_pydicom_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, reports, plans and waveforms; every transfer syntax but the deflated one."""
    monkeypatch.setattr(logging.getLogger("pydicom"), "disabled", True)
    identified = 0
    for path in sorted(TEST_FILES.rglob("*")):
        if path.is_file() and path.name != "image_dfl.dcm":
            data = path.read_bytes()
            assert identity(data) == by_pydicom(data), path.name
            identified += identity(data) is not None
    assert identified > 150
    assert identity((TEST_FILES / "image_dfl.dcm").read_bytes()) is None


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"])
def test_a_header_cut_short_says_all_or_nothing(name: str) -> None:
    """Part of an identity could be that of another: the walk must have come past all of it."""
    data = (TEST_FILES / name).read_bytes()
    whole = identity(data)
    assert whole is not None
    found = [identity(data[:length]) for length in range(2000)]
    assert set(found) == {None, whole}
    assert found.index(whole) == len(found) - found.count(whole), "once there, it stays"
    partly = [read_header(memoryview(data)[:length], len(data)).identity for length in range(2000)]
    assert set(partly) == {None, whole}


def test_a_nested_identity_is_not_the_files_own() -> None:
    """References to other studies stand in sequences, before and behind the file's own."""
    dataset = pydicom.dcmread(TEST_FILES / "CT_small.dcm")
    other = Dataset()
    other.StudyInstanceUID, other.SeriesInstanceUID, other.PatientID = "1.9", "1.9", "other"
    for undefined in (True, False):
        dataset.ReferencedStudySequence = [other]
        dataset["ReferencedStudySequence"].is_undefined_length = undefined
        other.is_undefined_length_sequence_item = undefined
        file = BytesIO()
        dataset.save_as(file)
        assert identity(file.getvalue()) == identity(ct())


def test_an_odd_value_is_left_out_and_the_others_stay() -> None:
    """Too long, several at once, or no UID at all."""
    good = identity(ct())
    assert good is not None
    start = bytes(128) + b"DICM" + text(0x00080016, b"1.2 ")
    end = text(0x00200010, b"")
    for value, study in (
        (b"1.2.3", b"1.2.3"),
        (b"1.2.3\0", b"1.2.3"),
        (b"1" * 64, b"1" * 64),
        (b"1" * 65, b""),
        (b"1" * 5000, b""),
        (b"1.2\\1.3", b""),
        (b"../../etc", b""),
        (b"\xff\n", b""),
        (b"", b""),
    ):
        data = start + text(0x00100020, b" P\xe9 ") + text(0x0020000D, value) + end
        assert identity(data) == DicomIdentity(study=study, patient=b"P\xe9"), value
    assert identity(start + end) is None
    assert identity(start + text(0x00080060, b"X" * 17) + end) is None


@given(st.binary(max_size=300))
def test_whatever_a_header_says_an_entry_holds_and_gives_back(value: bytes) -> None:
    """No value of a file makes a page that does not decode."""
    data = bytes(128) + b"DICM" + text(0x00080016, b"1 ") + text(0x00080060, value)
    data += text(0x00100020, value) + text(0x0020000D, value) + text(0x00200010, b"")
    page = TreePage(entries=(Entry(name=b"f", dicom=identity(data)),))
    assert decode_page(encode_page(page)) == page


def test_a_reader_takes_no_identity_beyond_its_bounds() -> None:
    """Who wrote the page may be hostile; what a later version appends is passed over."""
    for field in range(5):
        values = [b""] * 5
        values[field] = bytes(65)
        with pytest.raises(ObjectDamaged):
            decode_page(msgspec.msgpack.encode({"e": [{"n": b"f", "D": values}]}))
    later = msgspec.msgpack.encode({"e": [{"n": b"f", "D": [b"1", b"2", b"3", b"4", b"5", 6]}]})
    (entry,) = decode_page(later).entries
    assert entry.dicom == DicomIdentity(b"1", b"2", b"3", b"4", b"5")
    plain = msgspec.msgpack.decode(encode_page(TreePage(entries=(Entry(name=b"f"),))))
    assert "D" not in plain["e"][0]


def test_an_identity_counts_towards_the_bounds_of_a_page() -> None:
    """A page costs what it weighs, whoever filled it."""
    known = DicomIdentity(b"1", b"22", b"333", b"4444", b"55555")
    assert entry_weight(Entry(name=b"f", dicom=known)) == entry_weight(Entry(name=b"f")) + 15


class _Sink:
    """Names chunks and pages, and keeps none."""

    def chunk(self, data: memoryview, likely: int = 0) -> bytes:
        """Name a chunk."""
        return IDS.chunk_id(data)

    def page(self, page: bytes) -> TreeId:
        """Name a page."""
        return IDS.tree_id(page)


def entry_of(path: Path) -> Entry:
    """Return a file's entry, as a backup makes it."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        reader = FileReader(Chunker(IDS.cut_seed), _Sink(), SystemClock(), lambda: None)
        found = Found(os.fsencode(path.name), path.lstat())
        entry = reader.read(directory, found, found.stat.st_dev)
    finally:
        os.close(directory)
    assert entry is not None
    return entry


@pytest.mark.parametrize("size", [0, BUFFER_BYTES + 4711])
def test_small_files_long_ones_and_those_with_holes_are_identified(
    tmp_path: Path, size: int
) -> None:
    """One chunk or many; a long file's header lies in the first piece that is read."""
    data = ct()
    path = tmp_path / "image"
    path.write_bytes(data + os.urandom(size))
    assert entry_of(path).dicom == identity(data)
    os.truncate(path, BUFFER_BYTES + 2**20)
    assert entry_of(path).dicom == identity(data)
    path.write_bytes(bytes(200) + data)
    assert entry_of(path).dicom is None


def test_a_snapshot_says_whom_every_image_is_about_and_its_objects_do_not(tmp_path: Path) -> None:
    """Small files are read together, large ones alone; a file that is no longer an image says so.

    What is stored, and what it is called, holds no word of it.
    """
    made = BackupFixture(MemoryStore(), tmp_path)
    source = Path(os.fsdecode(made.source))
    image, uid = ct(PatientID="ZZSECRET", StudyInstanceUID="1.2.4711815"), b"1.2.4711815"
    (source / "small").write_bytes(image)
    (source / "large").write_bytes(image + os.urandom(2**20))
    (source / "text").write_bytes(b"no image")
    made.run()
    reader = made.reader()
    found = {name: entry.dicom for name, entry in walk(reader, made.tops()[b"source"].tree)}
    assert found == {b"small": identity(image), b"large": identity(image), b"text": None}
    for listed in made.store.list(""):
        stored = made.store.get(listed.name) + listed.name.encode()
        assert b"ZZSECRET" not in stored
        assert uid not in stored
    (source / "small").write_bytes(os.urandom(len(image)))
    made.run()
    after = dict(walk(made.reader(), made.tops()[b"source"].tree))
    assert (after[b"small"].dicom, after[b"large"].dicom) == (None, identity(image))
