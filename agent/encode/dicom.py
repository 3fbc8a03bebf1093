"""What a DICOM file's header says: who it is about, and where its pixels lie (PS3.5, PS3.10).

The bytes count, not what the transfer syntax says of them: files exist where the two disagree,
and a scan that is wrong costs only a cut at an odd place.  So nothing here raises: what is no
plain image has no layout, and what does not say who it is about has no identity.  Nothing is
inflated or decoded, pixels and frames are not looked at, and what is kept is bounded: agent/
encode/elements.py bounds the steps, MAX_IDENTITY_BYTES and _MAX_FIELD_BYTES each value.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.encode.elements import UNDEFINED, Odd, Walk, data_set
from agent.model.tree import MAX_IDENTITY_BYTES, DicomIdentity

_SOP_INSTANCE, _MODALITY, _PATIENT = 0x00080018, 0x00080060, 0x00100020
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
_WHO = frozenset({_STUDY, _SERIES, _SOP_INSTANCE, _PATIENT, _MODALITY})
_SIZE = frozenset({_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _BITS})
_FIELDS = _WHO | _SIZE
_LAST_OF_IMAGE = 0x0028FFFF  # an image has said by here how large it is
_PIXEL_DATA = 0x7FE00010
_MAX_FIELD_BYTES = 16
_MAX_MODALITY_BYTES = 16  # CS, PS3.5 6.2
_PADDING = b" \0"  # UIDs are padded with zeros, text with spaces; files mix them up
_UID_BYTES = b"0123456789."
_NOBODY: Final = DicomIdentity()


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

    @property
    def item_bytes(self) -> int:
        """How many bytes a pixel has, or a sample where planes are apart; 0 if that is not told."""
        return self.row_bytes // self.columns if self.columns else 0


class Header(NamedTuple):
    """What a file's first bytes say; both None where it is no DICOM file."""

    identity: DicomIdentity | None
    layout: PixelLayout | None

    @property
    def item_bytes(self) -> int:
        """How many bytes a pixel is said to have; 0 where nothing is."""
        return self.layout.item_bytes if self.layout else 0


_NOTHING: Final = Header(None, None)


def read_header(data: memoryview, size: int) -> Header:
    """Return what the header of a file of `size` bytes, which begins with `data`, says.

    There is no layout where there are no pixels, or where the file is cut short, deflated or odd
    in any way, or its header is longer than `data`.  There is no identity where the walk ended
    before it came past (0020,000E): part of a header is not taken for the whole.
    """
    fields: dict[int, bytes] = {}
    layout = None
    try:
        walk = data_set(data)
    except (Odd, struct.error):
        return _NOTHING
    with suppress(Odd, struct.error):
        layout = _layout(walk, fields, size)
    return Header(_identity(fields) if walk.tag > _SERIES else None, layout)


def pixel_layout(data: memoryview, size: int) -> PixelLayout | None:
    """Return where the pixels lie in a file of `size` bytes that begins with `data`, or None."""
    return read_header(data, size).layout


def _layout(walk: Walk, fields: dict[int, bytes], size: int) -> PixelLayout:
    """Walk to the pixels and return how they lie; leave in `fields` what was met on the way."""
    while True:
        tag, length, is_unknown = walk.to(_FIELDS, _LAST_OF_IMAGE)
        if tag > _PIXEL_DATA or (tag > _LAST_OF_IMAGE and _COLUMNS not in fields):
            raise Odd
        if tag == _PIXEL_DATA:
            break
        if tag in _FIELDS:
            _note(walk, tag, length, fields)
        walk.skip(length, is_unknown=is_unknown)
    if length == UNDEFINED:
        return _encapsulated(fields, walk.order, walk.at, size)
    return _native(fields, walk.order, walk.at, length, size)


def _note(walk: Walk, tag: int, length: int, fields: dict[int, bytes]) -> None:
    if tag in _SIZE and length > _MAX_FIELD_BYTES:
        raise Odd
    if length <= MAX_IDENTITY_BYTES + 1:  # and the padding to an even length
        fields[tag] = walk.value(length)


def _identity(fields: dict[int, bytes]) -> DicomIdentity | None:
    """Return who the file is about; a value that is odd is left out, and so is one of nothing."""
    patient = fields.get(_PATIENT, b"").strip(_PADDING)
    modality = fields.get(_MODALITY, b"").strip(_PADDING)
    identity = DicomIdentity(
        study=_uid(fields, _STUDY),
        series=_uid(fields, _SERIES),
        instance=_uid(fields, _SOP_INSTANCE),
        patient=patient if len(patient) <= MAX_IDENTITY_BYTES else b"",
        modality=modality if len(modality) <= _MAX_MODALITY_BYTES else b"",
    )
    return identity if identity != _NOBODY else None


def _uid(fields: dict[int, bytes], tag: int) -> bytes:
    uid = fields.get(tag, b"").strip(_PADDING)
    return uid if len(uid) <= MAX_IDENTITY_BYTES and not uid.strip(_UID_BYTES) else b""


def _encapsulated(fields: dict[int, bytes], order: str, start: int, size: int) -> PixelLayout:
    if order != "<":
        raise Odd
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
        raise Odd
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
        raise Odd
    number: int = struct.unpack(order + "H", value)[0]
    return number


def _frames(fields: dict[int, bytes]) -> int:
    text = fields.get(_FRAMES, b"").strip(b" \0")
    if not text:
        return 1
    if not text.isdigit() or int(text) == 0:
        raise Odd
    return int(text)
