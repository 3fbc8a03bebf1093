"""Fuzz targets of agent/encode: headers, cuts and codecs, whose bytes come from anybody's files."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom

from agent.crypto.naming import IdKey
from agent.encode.chunker import Chunker
from agent.encode.codecs import MAX_PLAIN_BYTES, squeeze, unsqueeze
from agent.encode.cuts import LOOK_AHEAD_BYTES, cuts_of
from agent.encode.dicom import pixel_layout, read_header
from agent.encode.numeric import ITEM_BYTES, squeeze_numbers
from agent.encode.paged import run_cuts
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.model.location import Codec
from agent.model.tree import Entry, TreePage, decode_page, encode_page
from tests.fuzz.target import KiB, Target

MiB = 1024 * KiB
_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
_CHUNKER = Chunker(IdKey(bytes(range(32))).cut_seed)
_LONG = b"L"  # the first byte of an input that stands for a long file
_LONG_BYTES = 2 * LOOK_AHEAD_BYTES
_FRAME = struct.Struct("<BI")  # codec, plain length
_CHUNK = struct.Struct("<4x3i")  # of numbers, of a block, of all


def _dicom_files() -> Iterator[bytes]:
    for path in sorted(_FILES.rglob("*")):
        if path.is_file() and path.stat().st_size <= 16 * KiB:
            yield path.read_bytes()


def _dicom(data: bytes) -> None:
    """Check that a layout lies within the file, and an identity within its bounds."""
    header = read_header(memoryview(data), len(data))
    if header.layout is not None:
        layout = header.layout
        assert 0 < layout.start <= layout.end <= len(data)
        pixels = layout.end - layout.start
        assert not layout.frame_bytes or layout.frame_bytes * layout.frames == pixels
        assert not layout.frame_bytes or layout.row_bytes
    page = TreePage(entries=(Entry(name=b"f", dicom=header.identity),))
    assert decode_page(encode_page(page)) == page


def _cuts(data: bytes) -> None:
    """Check that chunks join to the file, within their bounds, wherever a buffer ends."""
    if data[:1] == _LONG:
        half = data[len(data) // 2 :]
        data = (data[1:] + half * (_LONG_BYTES // len(half) + 1))[:_LONG_BYTES]
    view = memoryview(data)
    layout = pixel_layout(view, len(data))
    otherwise = run_cuts(view, len(data)) or _CHUNKER
    chunks = [*cuts_of(layout, otherwise).cut(view)]
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= LOOK_AHEAD_BYTES for chunk in chunks)
    cuts = cuts_of(layout, otherwise)
    some = [*cuts.cut_some(view)]
    some += cuts.cut(view[sum(map(len, some)) :])
    assert [*map(len, some)] == [*map(len, chunks)]


def _cut_seeds() -> Iterator[bytes]:
    for data in _dicom_files():
        yield data
        yield _LONG + data
    yield _LONG + b"SQLite format 3\0\x10\0" + bytes(100)
    yield _LONG + (bytes(12) + struct.pack("<HHHH", 48, 7000, 8192, 8196) + bytes(8172)) * 2


def _plains() -> Iterable[bytes]:
    ramp = b"".join(struct.pack("<H", n // 3 % 4096) for n in range(20 * KiB))
    colours = bytes(n // 5 * 3 % 251 for n in range(48 * KiB))
    return (b"", b"a line\n" * 200, bytes(70 * KiB), ramp, colours, bytes(range(256)) * 4)


def _squeeze(data: bytes) -> None:
    """Check that what is squeezed comes back; an input stands for itself many times over."""
    times, data = (data[0], data[1:]) if data else (1, b"")
    plain = data * times
    codec, squeezed = squeeze(plain)
    assert unsqueeze(codec, squeezed, len(plain)) == plain


def _unsqueeze(data: bytes) -> None:
    """Check that a frame decodes to as many bytes as it claims, or not at all."""
    if len(data) < _FRAME.size:
        return
    codec, plain_bytes = _FRAME.unpack_from(data)
    plain = unsqueeze(codec, data[_FRAME.size :], plain_bytes)
    assert len(plain) == plain_bytes <= MAX_PLAIN_BYTES


def _frames() -> Iterator[bytes]:
    for plain in (*_plains(), bytes(8 * MiB)):
        codec, squeezed = squeeze(plain)
        if len(squeezed) < 16 * KiB:
            yield _FRAME.pack(codec, len(plain)) + squeezed


def _numbers(data: bytes) -> None:
    """Check that a chunk decodes to as many bytes as its header claims, or not at all."""
    if len(data) < _CHUNK.size:
        return
    length, _, used = _CHUNK.unpack_from(data)
    plain_bytes = max(0, length + len(data) - used)
    assert len(unsqueeze(Codec.BLOSC2, data, plain_bytes)) == plain_bytes <= MAX_PLAIN_BYTES


def _chunks() -> Iterator[bytes]:
    for item in ITEM_BYTES:
        for length in (32 * KiB, 70_001):
            plain = bytes(n // item * 3 % 251 for n in range(length))
            squeezed = squeeze_numbers(plain, item, length)
            assert squeezed is not None
            yield squeezed


TARGETS = (
    Target(
        "dicom",
        ("agent.encode.dicom:read_header", "agent.encode.elements:Walk"),
        _dicom,
        seeds=_dicom_files,
        max_bytes=16 * KiB,
    ),
    Target(
        "cuts",
        ("agent.encode.cuts:cuts_of", "agent.encode.paged:run_cuts"),
        _cuts,
        seeds=_cut_seeds,
        max_bytes=20 * KiB,
    ),
    Target(
        "squeeze",
        ("agent.encode.codecs:squeeze", "agent.encode.probe:probe"),
        _squeeze,
        seeds=_plains,
    ),
    Target(
        "unsqueeze",
        ("agent.encode.codecs:unsqueeze", "agent.encode.numeric:open_numbers"),
        _unsqueeze,
        errors=(ObjectDamaged, RepositoryTooNew),
        seeds=_frames,
        max_bytes=16 * KiB,
    ),
    Target(
        "numbers",
        ("agent.encode.numeric:open_numbers", "agent.encode.blosc:Decompressor"),
        _numbers,
        errors=(ObjectDamaged,),
        seeds=_chunks,
        max_bytes=16 * KiB,
    ),
)
