"""DICOM made to hurt: whatever a file claims, its bytes come back, and looking at it stays cheap.

What is counted is what the code does (elements, items, bytes given to the chunker, memory), not how
long it takes here.  The bounds are those of docs/threat-model.md.
"""

import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from agent.backup.read import BUFFER_BYTES
from agent.crypto.naming import IdKey
from agent.encode import cuts as cutting
from agent.encode.chunker import Chunker
from agent.encode.cuts import LOOK_AHEAD_BYTES, Cuts, cuts_of
from agent.encode.dicom import Header, read_header
from agent.encode.elements import MAX_ELEMENTS, Walk

KiB = 1024
MiB = 1024 * KiB
CHUNKS_A_MIB = 4  # as many as content-defined cuts can make of any file
META_ELEMENTS = 0x10000  # tags ascend, so one group has no more
KEPT_BYTES = 64 * KiB  # by a scan of a header, whatever it is of
UNDEFINED = 0xFFFFFFFF
ITEM = bytes.fromhex("feff00e0")
ITEM_END = bytes.fromhex("feff0de000000000")
SEQUENCE_END = bytes.fromhex("feffdde000000000")
SEED = IdKey(bytes(range(32))).cut_seed


def short(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an explicit element that claims `length`, or the truth."""
    claimed = len(value) if length is None else length
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, claimed) + value


def long(tag: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    """Return an explicit element with four bytes of length."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length) + value


def number(tag: int, value: int) -> bytes:
    """Return an explicit US."""
    return short(tag, b"US", struct.pack("<H", value))


START = bytes(128) + b"DICM" + short(0x00080016, b"UI", b"1.2\0")
WHO = short(0x0020000D, b"UI", b"1.2\0") + short(0x0020000E, b"UI", b"1.3\0")


def sized(rows: int = 64, columns: int = 64, frames: bytes = b"1 ") -> bytes:
    """Return what an image says of its size."""
    return WHO + b"".join(
        (
            short(0x00280008, b"IS", frames),
            number(0x00280010, rows),
            number(0x00280011, columns),
            number(0x00280100, 16),
        )
    )


def encapsulated(*items: bytes, end: bytes = SEQUENCE_END) -> bytes:
    """Return an image of items, whole or not."""
    return START + sized() + long(0x7FE00010, b"OB", UNDEFINED) + b"".join(items) + end


def item(value: bytes, length: int | None = None) -> bytes:
    """Return an item that claims `length`, or the truth."""
    return ITEM + struct.pack("<I", len(value) if length is None else length) + value


def deflated() -> bytes:
    """Return a data set of which a hundred megabytes deflate to a hundred kilobytes."""
    meta = short(0x00020010, b"UI", b"1.2.840.10008.1.2.1.99")
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    squeezed = b"".join(body.compress(bytes(MiB)) for _ in range(100)) + body.flush()
    return bytes(128) + b"DICM" + meta + squeezed


NESTED = long(0x00081140, b"SQ", UNDEFINED)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "sequences 200,000 deep": lambda: START + NESTED * 200_000,
    "sequences and items 100,000 deep": lambda: START + (NESTED + item(b"", UNDEFINED)) * 100_000,
    "sequences of unknown representation": lambda: (
        START + long(0x00081140, b"UN", UNDEFINED) + struct.pack("<HHI", 8, 8, UNDEFINED) * 200_000
    ),
    "a sequence of 300,000 empty items": lambda: START + NESTED + item(b"") * 300_000,
    "300,000 items without an end": lambda: START + NESTED + ITEM_END * 300_000,
    "delimiters of nothing": lambda: START + SEQUENCE_END * 300_000,
    "400,000 private elements": lambda: START + b"".join(
        short(0x00090000 + n // 60_000 * 0x20000 + n % 60_000, b"LO", b"") for n in range(400_000)
    ),
    "one tag, over and over": lambda: START + short(0x00080018, b"UI", b"1.2\0") * 200_000,
    "60,000 elements of file meta": lambda: (
        bytes(128) + b"DICM"
        + b"".join(short(0x00020000 + n, b"LO", b"") for n in range(60_000)) + START[132:]
    ),
    "a length of all but undefined": lambda: START + long(0x00081140, b"SQ", 0xFFFFFFFE) + WHO,
    "text of 4 GiB": lambda: START + long(0x00104000, b"UT", 0xFFFFFFFE, b"x" * 100) + sized(),
    "pixels of 4 GiB": lambda: START + sized() + long(0x7FE00010, b"OW", 0xFFFFFFFE, bytes(9000)),
    "a group's length that lies": lambda: (
        START[:132] + short(0x00080000, b"UL", b"\xff" * 4) + START[132:] + sized()
        + long(0x7FE00010, b"OW", 8192, bytes(8192))
    ),
    "as many frames as fit": lambda: (
        START + sized(1, 1, b"9999999999999999") + long(0x7FE00010, b"OW", 9000, bytes(9000))
    ),
    "frames of 4 GiB": lambda: (
        START + sized(65535, 65535) + long(0x7FE00010, b"OW", 9000, bytes(9000))
    ),
    "two million frames of two bytes": lambda: (
        START + sized(1, 1, b"2000000 ") + long(0x7FE00010, b"OW", 4_000_000, bytes(4_000_000))
    ),
    "frames a row longer than a chunk": lambda: (
        START + sized(41, 65535, b"2 ") + long(0x7FE00010, b"OW", 10747740, bytes(10747740))
    ),
    "a million empty items": lambda: encapsulated(item(b"") * 1_000_000),
    "items of a byte": lambda: encapsulated(item(b"x") * 1_000_000),
    "a tiny item before every long one": lambda: encapsulated(
        (item(b"") + item(bytes(MiB - 8))) * 20
    ),
    "items that do not fit together": lambda: encapsulated(item(bytes(MiB // 2)) * 40),
    "an item beyond the file": lambda: encapsulated(item(bytes(9000), 0xFFFFFFFE)),
    "an item that never ends": lambda: encapsulated(item(bytes(9 * MiB), UNDEFINED)),
    "an item just beyond its end": lambda: encapsulated(item(bytes(9000), 9001 + 8)),
    "a table of offsets beyond the file": lambda: encapsulated(
        item(struct.pack("<2000I", *range(2**32 - 2000, 2**32))), item(bytes(9000)), item(b"")
    ),
    "a table of a million offsets": lambda: encapsulated(item(b"\xff" * 4 * MiB), item(b"abcd")),
    "no delimiter": lambda: encapsulated(item(bytes(9000)), item(bytes(9000)), end=b""),
    "nothing but delimiters": lambda: encapsulated(SEQUENCE_END * 10_000),
    "a hundred megabytes deflated": deflated,
}  # fmt: skip


class CountingChunker(Chunker):
    """Counts the bytes that it is given to cut by content."""

    __slots__ = ("given",)

    def __init__(self) -> None:
        """Start at nothing."""
        super().__init__(SEED)
        self.given = 0

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Count, and cut."""
        self.given += len(data)
        return super().cut(data)

    def cut_some(self, data: memoryview) -> Iterator[memoryview]:
        """Count, and cut."""
        self.given += len(data)
        return super().cut_some(data)


@dataclass(slots=True)
class Cost:
    """What was looked at."""

    elements: int = 0
    items: int = 0
    peak_bytes: int = 0


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Count what is looked at from now on."""
    cost = Cost()
    element, item_bytes = Walk._element, cutting._item_bytes

    def counted_element(self: Walk, *, is_explicit: bool) -> tuple[int, int, bool]:
        cost.elements += 1
        return element(self, is_explicit=is_explicit)

    def counted_item(head: memoryview) -> int:
        cost.items += 1
        return item_bytes(head)

    monkeypatch.setattr(Walk, "_element", counted_element)
    monkeypatch.setattr(cutting, "_item_bytes", counted_item)
    return cost


def scanned(data: bytes, cost: Cost) -> Header:
    """Return a header, and note the memory that it took."""
    tracemalloc.start()
    header = read_header(memoryview(data), len(data))
    _, cost.peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return header


def in_pieces(cuts: Cuts, data: bytes) -> Iterator[memoryview]:
    """Yield the chunks of a file that passes through the reader's buffer."""
    view, start, end = memoryview(data), 0, BUFFER_BYTES
    while end < len(data):
        before = start
        for chunk in cuts.cut_some(view[start:end]):
            start += len(chunk)
            yield chunk
        assert start > before, "no piece of a buffer's size is without a cut"
        end = start + BUFFER_BYTES
    yield from cuts.cut(view[start:])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_comes_back_and_costs_what_its_size_allows(name: str, cost: Cost) -> None:
    """Steps, memory, chunks and bytes cut by content, in one piece or in many."""
    data = HOSTILE[name]()
    header = scanned(data, cost)
    assert cost.elements <= MAX_ELEMENTS + META_ELEMENTS
    assert cost.peak_bytes <= KEPT_BYTES
    for whole in (True, False):
        chunker = CountingChunker()
        cuts = cuts_of(header.layout, chunker)
        chunks = [*(cuts.cut(memoryview(data)) if whole else in_pieces(cuts, data))]
        assert b"".join(chunks) == data
        assert all(0 < len(chunk) <= LOOK_AHEAD_BYTES for chunk in chunks)
        assert len(chunks) <= 3 + CHUNKS_A_MIB * len(data) // MiB
        assert cost.items <= len(data) // 8 + len(chunks) + 1
        assert chunker.given <= 2 * len(data)
        cost.items = 0


@pytest.mark.parametrize(
    ("name", "has_layout", "has_identity"),
    [
        ("sequences 200,000 deep", False, False),
        ("one tag, over and over", False, False),
        ("a length of all but undefined", False, False),
        ("text of 4 GiB", False, False),
        ("pixels of 4 GiB", False, True),
        ("a group's length that lies", True, True),
        ("as many frames as fit", True, True),
        ("a million empty items", True, True),
        ("a hundred megabytes deflated", False, False),
    ],
)
def test_what_is_odd_is_cut_by_content(name: str, has_layout: bool, has_identity: bool) -> None:
    """A walk that does not come to the pixels says nothing of them; group lengths are unread."""
    data = HOSTILE[name]()
    header = read_header(memoryview(data), len(data))
    assert (header.layout is not None, header.identity is not None) == (has_layout, has_identity)


def test_private_elements_and_sequences_in_front_are_walked_over() -> None:
    """What vendors really write, some thousand of them, costs an image nothing."""
    private = b"".join(short(0x00091000 + n, b"LO", b"vendor") for n in range(3000))
    nested = NESTED + (item(WHO, UNDEFINED) + ITEM_END) * 50 + SEQUENCE_END
    plain = sized() + long(0x7FE00010, b"OW", 8192, bytes(8192))
    data = START + nested + private + plain
    header = read_header(memoryview(data), len(data))
    assert header.identity is not None
    assert header.layout is not None
    assert header.layout.start == len(data) - 8192
