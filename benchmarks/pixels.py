"""Pictures from real pixels: enlarged, blended and noised by arithmetic on whole pictures.

A picture is one big integer with a lane of 8 or 16 bits a sample, because the standard library
adds, masks and shifts such integers about as fast as memory goes.  Samples stay below what a lane
holds, so that no operation spills into the next.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

STEPS_LOG2 = 4
STEPS = 1 << STEPS_LOG2  # how finely two pictures blend; 12-bit samples then just fit 16 bits
_SAMPLE_MAX = 0xFFF


class Picture(NamedTuple):
    """Samples in lanes, little endian, row by row."""

    value: int
    rows: int
    columns: int
    lane_bytes: int = 2
    samples: int = 1  # a pixel

    @property
    def size(self) -> int:
        """Bytes that the samples take."""
        return self.rows * self.columns * self.samples * self.lane_bytes

    def pixels(self) -> bytes:
        """Return the samples as DICOM's native pixel data has them."""
        return self.value.to_bytes(self.size, "little")


class Grain(NamedTuple):
    """Noise a sample: the sum of `fields` uniform draws from 0 … 2**`bits` - 1."""

    bits: int
    fields: int

    @property
    def entropy_bits(self) -> float:
        """Bits a sample that no lossless coder can do without: Shannon's entropy of the sum."""
        ways = [1]
        for _ in range(self.fields):
            padded = [0] * ((1 << self.bits) - 1)
            ways = [
                sum((padded + ways + padded)[at : at + (1 << self.bits)])
                for at in range(len(ways) + len(padded))
            ]
        total = sum(ways)
        return -sum(way / total * math.log2(way / total) for way in ways)


def lanes(sample: int, lane_bytes: int, count: int) -> int:
    """Return a picture's value with the same sample everywhere."""
    return int.from_bytes(sample.to_bytes(lane_bytes, "little") * count, "little")


def enlarged(samples: Sequence[int], columns: int, factor: int) -> Picture:
    """Return a picture `factor` (a power of two, at most 16) times as wide and high, bilinear.

    Samples below zero become 0 and those above 4095 become 4095.
    """
    clipped = [min(max(sample, 0), _SAMPLE_MAX) for sample in samples]
    width = columns * factor
    lines = [
        int.from_bytes(b"".join(_stretched(clipped[at : at + columns], factor)), "little")
        for at in range(0, len(clipped), columns)
    ]
    shift = factor.bit_length() - 1
    mask = lanes(0xFFFF >> shift, 2, width)
    rows = bytearray()
    for line, below in zip(lines, [*lines[1:], lines[-1]], strict=True):
        for step in range(factor):
            mixed = ((line * (factor - step) + below * step) >> shift) & mask
            rows += mixed.to_bytes(width * 2, "little")
    return Picture(int.from_bytes(rows, "little"), len(lines) * factor, width)


def _stretched(line: list[int], factor: int) -> list[bytes]:
    pairs = zip(line, [*line[1:], line[-1]], strict=True)
    return [
        ((left * (factor - step) + right * step) // factor).to_bytes(2, "little")
        for left, right in pairs
        for step in range(factor)
    ]


def rolled(picture: Picture, rows: int) -> Picture:
    """Return the picture moved down by `rows`; what leaves at the bottom comes in at the top."""
    pixels = picture.pixels()
    cut = picture.size - rows % picture.rows * (picture.size // picture.rows)
    return picture._replace(value=int.from_bytes(pixels[cut:] + pixels[:cut], "little"))


def blended(first: Picture, second: Picture, step: int) -> Picture:
    """Return a picture `step` sixteenths of the way from the first to the second (16 bits)."""
    mixed = first.value * (STEPS - step) + second.value * step
    mask = lanes(_SAMPLE_MAX, 2, first.size // 2)
    return first._replace(value=(mixed >> STEPS_LOG2) & mask)


def circle(rows: int, columns: int, across: float) -> int:
    """Return a mask of 16-bit lanes: `across` of the width is body, and outside it nothing is."""
    lines = []
    for row in range(rows):
        height = (2 * (row + 0.5) / rows - 1) / across
        chord = across * max(0.0, 1 - height * height) ** 0.5
        half = round(columns / 2 * min(1.0, chord))
        edge = bytes(2 * (columns // 2 - half))
        lines.append(edge + b"\xff" * (columns * 2 - 2 * len(edge)) + edge)
    return int.from_bytes(b"".join(lines), "little")


def noised(picture: Picture, grain: Grain, mask: int, random: Random) -> Picture:
    """Return the picture with noise of its own added, and zero wherever the mask is."""
    draw = random.getrandbits(picture.size * 8)
    field = lanes((1 << grain.bits) - 1, picture.lane_bytes, picture.size // picture.lane_bytes)
    value = picture.value
    for index in range(grain.fields):
        value += (draw >> (index * grain.bits)) & field
    return picture._replace(value=value & mask)
