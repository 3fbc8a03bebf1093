"""From element to element of a DICOM data set, values unread, over bytes that may lie (PS3.5 7).

A walk keeps nothing and goes back nowhere.  It costs at most MAX_ELEMENTS steps, of which each
looks at 12 bytes (tag, representation, length), however deep sequences nest and whatever lengths
claim.  In front of it the file meta group costs at most 65,536: tags ascend, and it is one group.
"""

import struct
from typing import Final

MAX_ELEMENTS = 100_000  # of one header: an enhanced image of some thousand frames has as many

UNDEFINED: Final = 0xFFFFFFFF
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_BEGINNINGS: Final = frozenset((b"\x02\x00", b"\x08\x00", b"\x00\x08"))  # groups, without preamble
_ITEM_GROUP = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

# Value representations with two bytes of length, and those with two zeros and four (PS3.5 7.1.2)
_SHORT = frozenset(
    vr.encode()
    for vr in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905 - a list of bytes is four lines longer
)
_LONG = frozenset(vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905
_STRUCTS: Final = {
    order: (
        struct.Struct(order + "HH2sH"),
        struct.Struct(order + "HHI"),
        struct.Struct(order + "I"),
    )
    for order in "<>"
}
_NO_VR: Final[frozenset[bytes]] = frozenset()
_NOWHERE: Final = 1 << 62


class Odd(Exception):
    """These bytes are no data set that a PACS would write."""


class Walk:
    """Goes from element to element; `at` is where the next one, or a value, begins.

    `tag` is the last one met outside of sequences.  Raises Odd, or struct.error at the end of the
    bytes.
    """

    __slots__ = (
        "_data", "_explicit", "_implicit", "_is_explicit", "_left", "_short", "_word",
        "at", "order", "tag",
    )  # fmt: skip

    def __init__(self, data: memoryview, at: int, order: str, *, is_explicit: bool) -> None:
        """Begin at `at`; `order` is that of struct, `<` or `>`."""
        self.at = at
        self.order = order
        self.tag = 0
        self._data = data
        self._left = MAX_ELEMENTS
        self._is_explicit = is_explicit
        self._short = _SHORT if is_explicit else _NO_VR
        self._explicit, self._implicit, self._word = _STRUCTS[order]

    def top(self) -> tuple[int, int, bool]:
        """Go on to the value of the element here, which lies outside of any sequence.

        Returns its tag, its length, and whether its representation is UN.  Tags ascend.
        """
        tag, length, is_unknown = self._element(is_explicit=self._is_explicit)
        if tag <= self.tag:
            raise Odd
        self.tag = tag
        return tag, length, is_unknown

    def to(self, wanted: frozenset[int], last: int) -> tuple[int, int, bool]:
        """Go on to the value of the next element that is in `wanted`, or behind `last`.

        Returns what `top` returns of it.  A header has a hundred elements, most of them short,
        explicit and in between: these are passed in a third of the time of `top` and `skip`.
        """
        unpack, data, short = self._explicit.unpack_from, self._data, self._short
        at, tag, left = self.at, self.tag, self._left
        while True:
            try:
                group, element, vr, length = unpack(data, at)
            except struct.error:
                self.at, self.tag, self._left = at, tag, left
                raise
            here = group << 16 | element
            if vr in short and tag < here <= last and left:
                at, tag, left = at + 8, here, left - 1
                if here in wanted:
                    self.at, self.tag, self._left = at, tag, left
                    return here, length, False
                at += length
                continue
            self.at, self.tag, self._left = at, tag, left
            here, length, is_unknown = self.top()
            if here in wanted or here > last:
                return here, length, is_unknown
            self.skip(length, is_unknown=is_unknown)
            at, tag, left = self.at, self.tag, self._left

    def value(self, length: int) -> bytes:
        """Return the value here; shorter where the bytes end."""
        return bytes(self._data[self.at : self.at + length])

    def skip(self, length: int, *, is_unknown: bool) -> None:
        """Go past a value; one of undefined length is a sequence, to its delimiter.

        One of undefined length and unknown VR is coded with implicit VR (PS3.5 6.2.2, note 2).
        """
        if length != UNDEFINED:
            self.at += length
            return
        depth, implicit_from = 1, 1 if is_unknown else _NOWHERE
        while depth:
            is_explicit = self._is_explicit and depth < implicit_from
            tag, length, is_unknown = self._element(is_explicit=is_explicit)
            if tag == _SEQUENCE_END:
                depth -= 1
                if depth < implicit_from:
                    implicit_from = _NOWHERE
            elif length != UNDEFINED:
                self.at += length
            elif tag not in (_ITEM, _ITEM_END):
                depth += 1
                if is_unknown:
                    implicit_from = min(implicit_from, depth)

    def _element(self, *, is_explicit: bool) -> tuple[int, int, bool]:
        self._left -= 1
        if self._left < 0:
            raise Odd
        group, element, vr, length = self._explicit.unpack_from(self._data, self.at)
        tag = group << 16 | element
        if is_explicit and group != _ITEM_GROUP:
            if vr in _SHORT:
                self.at += 8
                return tag, length, False
            if vr not in _LONG:
                raise Odd
            (length,) = self._word.unpack_from(self._data, self.at + 8)
            self.at += 12
            return tag, length, vr == b"UN"
        _, _, length = self._implicit.unpack_from(self._data, self.at)
        self.at += 8
        return tag, length, False


def data_set(data: memoryview) -> Walk:
    """Return a walk at the first element of the data set: behind preamble and file meta group.

    Files of neither are known too.  The bytes tell order and representation; every object of a
    PACS begins with group 0008, and what does not is refused.
    """
    at = _after_meta(data)
    group = bytes(data[at : at + 2])
    if group not in (b"\x08\x00", b"\x00\x08"):
        raise Odd
    vr = bytes(data[at + 4 : at + 6])
    is_explicit = vr in _SHORT or vr in _LONG
    return Walk(data, at, "<" if group[0] else ">", is_explicit=is_explicit)


def may_begin(data: bytes) -> bool:
    """Tell whether `data_set` would take a step in a file that begins so; costs next to nothing."""
    return data[:2] in _BEGINNINGS or data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == _MAGIC


def has_magic(data: memoryview) -> bool:
    """Tell whether a file that begins so claims to be DICOM (PS3.10 7.1)."""
    return data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == _MAGIC


def _after_meta(data: memoryview) -> int:
    at = 0
    if bytes(data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]) == _MAGIC:
        at = _PREAMBLE_BYTES + 4
    elif bytes(data[:2]) not in _BEGINNINGS:
        raise Odd
    walk = Walk(data, at, "<", is_explicit=True)
    while bytes(data[walk.at : walk.at + 2]) == b"\x02\x00":
        _, length, is_unknown = walk.top()
        if length == UNDEFINED:
            raise Odd
        walk.skip(length, is_unknown=is_unknown)
    return walk.at
