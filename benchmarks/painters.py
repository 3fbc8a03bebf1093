"""What each modality's uncompressed pictures look like: real pixels, and noise of their own.

Noise and the share of a picture that is body are set so that zstd 3 squeezes a CT slice about
three to one, as it does real ones (real JPEG-LS and zstd figures: docs/benchmarks.md names them).
"""

from array import array
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import pydicom
import pydicom.data

from benchmarks.pixels import STEPS, Grain, Picture, blended, circle, enlarged, noised, rolled

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
_BODY = 0.85  # of a CT or MR picture's width: half of the area, as in a real slice
_CR_COLUMNS = (122, 362)  # of the source picture: without the black at its sides
_CT_GRAIN, _FINE_GRAIN, _SPECKLE = Grain(3, 4), Grain(2, 4), Grain(2, 2)
_BLACK = 8  # ultrasound samples up to this are outside the sector

Paint = Callable[[Random, int], Iterator[bytes]]


class Modality(NamedTuple):
    """How files of one kind are made."""

    name: str
    template: str  # the test file that gives the header
    sop_class: str
    rows: int
    columns: int
    lane_bytes: int
    samples: int
    grain: Grain
    paint: Paint  # yields as many pictures' pixels as asked for

    @property
    def frame_bytes(self) -> int:
        """Bytes of one picture."""
        return self.rows * self.columns * self.lane_bytes * self.samples

    @property
    def noise_bytes(self) -> float:
        """Bytes of one picture's noise alone, which no lossless coder can go below."""
        return noisy_samples(self) * self.grain.entropy_bits / 8


@cache
def _real(name: str, factor: int, columns: tuple[int, int] | None = None) -> Picture:
    """Return a test file's picture, or some of its columns, enlarged."""
    dataset = pydicom.dcmread(TEST_FILES / name)
    samples, width = array("H", dataset.PixelData), dataset.Columns
    first, end = columns or (0, width)
    part = [v for at in range(0, len(samples), width) for v in samples[at + first : at + end]]
    return enlarged(part, end - first, factor)


@cache
def _body(rows: int, columns: int) -> int:
    return circle(rows, columns, _BODY)


def _slices(name: str, grain: Grain) -> Paint:
    """Return how a volume is painted: each slice blends on from the one before."""

    def paint(random: Random, count: int) -> Iterator[bytes]:
        real = _real(name, 4)
        body = _body(real.rows, real.columns)
        first, second = (rolled(real, random.randrange(real.rows)) for _ in range(2))
        for number in range(count):
            if number % STEPS == 0 and number:
                first, second = second, rolled(real, random.randrange(real.rows))
            between = blended(first, second, number % STEPS)
            yield noised(between, grain, body, random).pixels()

    return paint


def _radiographs(random: Random, count: int) -> Iterator[bytes]:
    """Paint pictures that fill the whole detector, each from another place."""
    real = _real("examples_overlay.dcm", 8, _CR_COLUMNS)
    everything = (1 << real.size * 8) - 1
    for _ in range(count):
        there = rolled(real, random.randrange(real.rows))
        yield noised(there, _FINE_GRAIN, everything, random).pixels()


@cache
def _sector() -> tuple[Picture, int]:
    """Return an ultrasound picture twice as wide and high, halved in brightness; and its sector."""
    dataset = pydicom.dcmread(TEST_FILES / "examples_rgb_color.dcm")
    line = dataset.Columns * 3
    lines = []
    for at in range(0, dataset.Rows * line, line):
        row = dataset.PixelData[at : at + line]
        lines += [b"".join(row[x : x + 3] * 2 for x in range(0, line, 3))] * 2
    pixels = b"".join(lines)
    dark = pixels.translate(bytes(v // 2 for v in range(256)))
    sector = pixels.translate(bytes(255 * (v > _BLACK) for v in range(256)))
    value = int.from_bytes(dark, "little")
    picture = Picture(value, dataset.Rows * 2, dataset.Columns * 2, lane_bytes=1, samples=3)
    return picture, int.from_bytes(sector, "little")


def _speckles(random: Random, count: int) -> Iterator[bytes]:
    """Paint frames of a loop, in which the speckle lives and the rest stands."""
    picture, sector = _sector()
    for _ in range(count):
        yield noised(picture, _SPECKLE, sector, random).pixels()


def noisy_samples(modality: Modality) -> int:
    """Return how many samples of a picture have noise: those of the body, the sector, or all."""
    if modality.name == "US":
        return _sector()[1].bit_count() // 8
    if modality.name == "CR":
        return modality.rows * modality.columns
    return _body(modality.rows, modality.columns).bit_count() // 16


CT = Modality(
    "CT", "CT_small.dcm", "1.2.840.10008.5.1.4.1.1.2", 512, 512, 2, 1,
    _CT_GRAIN, _slices("CT_small.dcm", _CT_GRAIN),
)  # fmt: skip
MR = Modality(
    "MR", "MR_small.dcm", "1.2.840.10008.5.1.4.1.1.4", 256, 256, 2, 1,
    _FINE_GRAIN, _slices("MR_small.dcm", _FINE_GRAIN),
)  # fmt: skip
CR = Modality(
    "CR", "dicomdirtests/77654033/CR1/6154", "1.2.840.10008.5.1.4.1.1.1", 2400, 1920, 2, 1,
    _FINE_GRAIN, _radiographs,
)  # fmt: skip
XA = Modality(
    "XA", "dicomdirtests/77654033/CR1/6154", "1.2.840.10008.5.1.4.1.1.12.1", 512, 512, 2, 1,
    _FINE_GRAIN, _slices("CT_small.dcm", _FINE_GRAIN),
)  # fmt: skip
US = Modality(
    "US",
    "examples_rgb_color.dcm",
    "1.2.840.10008.5.1.4.1.1.3.1",
    480,
    640,
    1,
    3,
    _SPECKLE,
    _speckles,
)
