"""Where the pixels of a DICOM file lie: a scan of its header, and of nothing else (PS3.5, PS3.10).

The bytes count, not what the transfer syntax says of them: files exist where the two disagree,
and a scan that is wrong costs only a cut at an odd place.  So nothing here raises: what is no
plain image has no layout.  A scan keeps nothing and costs at most MAX_ELEMENTS steps, however
deep sequences nest and whatever lengths claim.
"""

import struct
from dataclasses import dataclass
from typing import Final

MAX_ELEMENTS = 100_000  # of one header: an enhanced image of some thousand frames has as many

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_UNDEFINED = 0xFFFFFFFF
_META_GROUP = 0x0002
_ITEM_GROUP = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
_FIELDS = frozenset({_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _BITS})
_LAST_OF_IMAGE = 0x0028FFFF  # an image has said by here how large it is
_PIXEL_DATA = 0x7FE00010
_MAX_FIELD_BYTES = 16

# Value representations with two bytes of length, and those with two zeros and four (PS3.5 7.1.2)
_SHORT = frozenset(
    vr.encode()
    for vr in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905 - a list of bytes is four lines longer
)
_LONG = frozenset(vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905
_NOWHERE: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How a file's pixel data lie; offsets from the file's first byte.

    Encapsulated data end at a delimiter, which the scan does not look for: `end` is the file's.
    `frame_bytes` is 0 where frames are not all of one length, or are more than the data; else
    `end` - `start` is `frames` times it, and padding lies behind `end`.
    """

    start: int
    end: int
    rows: int
    columns: int
    samples: int  # a pixel
    bits: int  # allocated, a sample
    frames: int
    frame_bytes: int
    row_bytes: int  # of one colour plane where `is_planar`; 0 with `frame_bytes`
    is_planar: bool
    is_encapsulated: bool
    is_big_endian: bool


class _Odd(Exception):
    """This is no image that a PACS would write."""


def pixel_layout(data: memoryview, size: int) -> PixelLayout | None:
    """Return where the pixels lie in a file of `size` bytes that begins with `data`.

    None where it is no DICOM file, has no pixels, is cut short, deflated or odd in any way, or
    where its header is longer than `data`.
    """
    try:
        at = _after_meta(data)
        return _layout(data, at, size)
    except (_Odd, struct.error):
        return None


class _Walk:
    """Goes from element to element; `at` is where the next one, or a value, begins."""

    __slots__ = ("_data", "_explicit", "_implicit", "_is_explicit", "_left", "_word", "at")

    def __init__(self, data: memoryview, at: int, order: str, *, is_explicit: bool) -> None:
        self.at = at
        self._data = data
        self._left = MAX_ELEMENTS
        self._is_explicit = is_explicit
        self._explicit = struct.Struct(order + "HH2sH")
        self._implicit = struct.Struct(order + "HHI")
        self._word = struct.Struct(order + "I")

    def element(self, *, is_explicit: bool) -> tuple[int, int, bool]:
        """Go on to the value of the element here; return tag, length, whether its VR is UN."""
        self._left -= 1
        if self._left < 0:
            raise _Odd
        group, element, vr, length = self._explicit.unpack_from(self._data, self.at)
        tag = group << 16 | element
        if is_explicit and group != _ITEM_GROUP:
            if vr in _SHORT:
                self.at += 8
                return tag, length, False
            if vr not in _LONG:
                raise _Odd
            (length,) = self._word.unpack_from(self._data, self.at + 8)
            self.at += 12
            return tag, length, vr == b"UN"
        _, _, length = self._implicit.unpack_from(self._data, self.at)
        self.at += 8
        return tag, length, False

    def top(self) -> tuple[int, int, bool]:
        """Do the same outside of any sequence."""
        return self.element(is_explicit=self._is_explicit)

    def skip(self, length: int, *, is_unknown: bool) -> None:
        """Go past a value; one of undefined length is a sequence, to its delimiter.

        One of undefined length and unknown VR is coded with implicit VR (PS3.5 6.2.2, note 2).
        """
        if length != _UNDEFINED:
            self.at += length
            return
        depth, implicit_from = 1, 1 if is_unknown else _NOWHERE
        while depth:
            is_explicit = self._is_explicit and depth < implicit_from
            tag, length, is_unknown = self.element(is_explicit=is_explicit)
            if tag == _SEQUENCE_END:
                depth -= 1
                if depth < implicit_from:
                    implicit_from = _NOWHERE
            elif length != _UNDEFINED:
                self.at += length
            elif tag not in (_ITEM, _ITEM_END):
                depth += 1
                if is_unknown:
                    implicit_from = min(implicit_from, depth)


def _after_meta(data: memoryview) -> int:
    """Return where the data set begins: after preamble and file meta group, if it has them."""
    at = 0
    if bytes(data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]) == _MAGIC:
        at = _PREAMBLE_BYTES + 4
    elif bytes(data[:2]) not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        raise _Odd
    walk = _Walk(data, at, "<", is_explicit=True)
    while bytes(data[walk.at : walk.at + 2]) == b"\x02\x00":
        _, length, is_unknown = walk.top()
        if length == _UNDEFINED:
            raise _Odd
        walk.skip(length, is_unknown=is_unknown)
    return walk.at


def _layout(data: memoryview, at: int, size: int) -> PixelLayout:
    group = bytes(data[at : at + 2])
    if group not in (b"\x08\x00", b"\x00\x08"):  # every image begins with its SOP class
        raise _Odd
    order = "<" if group[0] else ">"
    vr = bytes(data[at + 4 : at + 6])
    walk = _Walk(data, at, order, is_explicit=vr in _SHORT or vr in _LONG)
    fields: dict[int, bytes] = {}
    tag = 0
    while True:
        last = tag
        tag, length, is_unknown = walk.top()
        if not last < tag <= _PIXEL_DATA or (tag > _LAST_OF_IMAGE and _COLUMNS not in fields):
            raise _Odd
        if tag == _PIXEL_DATA:
            break
        if tag in _FIELDS:
            if length > _MAX_FIELD_BYTES:
                raise _Odd
            fields[tag] = bytes(data[walk.at : walk.at + length])
        walk.skip(length, is_unknown=is_unknown)
    if length == _UNDEFINED:
        return _encapsulated(fields, order, walk.at, size)
    return _native(fields, order, walk.at, length, size)


def _encapsulated(fields: dict[int, bytes], order: str, start: int, size: int) -> PixelLayout:
    if order != "<":
        raise _Odd
    return PixelLayout(
        start=start,
        end=size,
        rows=_number(fields, _ROWS, order),
        columns=_number(fields, _COLUMNS, order),
        samples=_number(fields, _SAMPLES, order, 1),
        bits=_number(fields, _BITS, order),
        frames=_frames(fields),
        frame_bytes=0,
        row_bytes=0,
        is_planar=_number(fields, _PLANAR, order, 0) == 1,
        is_encapsulated=True,
        is_big_endian=False,
    )


def _native(
    fields: dict[int, bytes], order: str, start: int, length: int, size: int
) -> PixelLayout:
    if start + length > size:
        raise _Odd
    rows, columns = _number(fields, _ROWS, order), _number(fields, _COLUMNS, order)
    samples, bits = _number(fields, _SAMPLES, order, 1), _number(fields, _BITS, order)
    frames, is_planar = _frames(fields), _number(fields, _PLANAR, order, 0) == 1
    stored = samples
    if fields.get(_PHOTOMETRIC, b"").strip(b" \0") == b"YBR_FULL_422":
        stored, is_planar = 2, False  # two pixels share their colour
    row_bits = columns * bits * (1 if is_planar else stored)
    frame_bits = rows * columns * bits * stored
    frame_bytes = frame_bits // 8
    if row_bits % 8 or frames * frame_bytes > length:
        frame_bytes = 0
    return PixelLayout(
        start=start,
        end=start + (frames * frame_bytes or length),
        rows=rows,
        columns=columns,
        samples=samples,
        bits=bits,
        frames=frames,
        frame_bytes=frame_bytes,
        row_bytes=row_bits // 8 if frame_bytes else 0,
        is_planar=is_planar,
        is_encapsulated=False,
        is_big_endian=order == ">",
    )


def _number(fields: dict[int, bytes], tag: int, order: str, default: int | None = None) -> int:
    value = fields.get(tag, b"")
    if not value and default is not None:
        return default
    if len(value) != 2:
        raise _Odd
    number: int = struct.unpack(order + "H", value)[0]
    return number


def _frames(fields: dict[int, bytes]) -> int:
    text = fields.get(_FRAMES, b"").strip(b" \0")
    if not text:
        return 1
    if not text.isdigit() or int(text) == 0:
        raise _Odd
    return int(text)
