"""What each codec makes of each kind of data, and what the probe chooses of them.

    python -m benchmarks.codecs [--mebibytes 8] [--rounds 5]

Ratio, and MB a second of one thread's processor time to squeeze and to open again, on chunks of
1 MiB; no seal, no disk.  This is what docs/decisions/0004 and 0010 stand on.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import zstandard

from agent.encode.codecs import squeeze, unsqueeze
from agent.encode.numeric import ITEM_BYTES, open_numbers, squeeze_numbers
from agent.encode.probe import probe
from agent.model.location import Codec
from benchmarks import database, painters, records

Chunks = list[memoryview]

MiB = 1024 * 1024
_LEVELS = (1, 2, 3)
_MODALITIES = (painters.CT, painters.MR, painters.CR, painters.XA, painters.US)


class Coder(NamedTuple):
    """One way to squeeze a chunk and to open it again."""

    name: str
    squeeze: Callable[[memoryview], bytes | None]  # None where it does not fit
    open: Callable[[bytes, int], object]


class Figures(NamedTuple):
    """What one way made of one kind of data."""

    ratio: float
    squeeze_mb_s: float
    open_mb_s: float

    def __str__(self) -> str:
        """Return ratio and speeds as the documents have them."""
        return f"{self.ratio:.2f} {self.squeeze_mb_s:,.0f} {self.open_mb_s:,.0f}"


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=8, help="of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    options = parser.parse_args(arguments)
    coders = [*_coders()]
    print("| | " + " | ".join(coder.name for coder in coders) + " | chosen, of the best | µs |")
    print("|---|" + "---|" * (len(coders) + 2))
    for name, data in kinds(options.mebibytes * MiB):
        chunks = [memoryview(data)[at : at + MiB] for at in range(0, len(data), MiB)]
        figures = [_measured(coder, chunks, options.rounds) for coder in coders]
        taken, stored = chosen(chunks)
        best = max(found.ratio for found in figures)
        choice = f"{taken} {stored * best / len(data):.2f}"
        print(f"| {name} | {' | '.join(map(str, figures))} | {choice} | {_probing(chunks):.0f} |")
    return 0


def _coders() -> Iterator[Coder]:
    opener = zstandard.ZstdDecompressor()
    for level in _LEVELS:
        compressor = zstandard.ZstdCompressor(level=level)
        yield Coder(f"zstd {level}", compressor.compress, lambda data, _: opener.decompress(data))
    for item in ITEM_BYTES:
        yield Coder(f"numbers of {item}", _numbers_of(item), open_numbers)


def _numbers_of(item: int) -> Callable[[memoryview], bytes | None]:
    return lambda chunk: squeeze_numbers(chunk, item, len(chunk))


def kinds(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield names of kinds of data, and about `size` bytes of each."""
    random = Random(3)
    for modality in _MODALITIES:
        frames = modality.paint(random, -(-size // modality.frame_bytes))
        yield modality.name, b"".join(frames)[:size]
    slices = b"".join(painters.CT.paint(random, size // painters.CT.frame_bytes))
    samples = array("H", slices)
    samples.byteswap()
    yield "CT, big end first, cut within", samples.tobytes()[1:]
    yield "CT, as floating point", array("f", array("H", slices[: size // 2])).tobytes()
    yield "CT, 8 bit", bytes(value >> 4 & 0xFF for value in array("H", slices[: 2 * size]))
    yield "records", b"".join(_records(random, size))
    yield "database", _database(random, size)[:size]
    yield "program", _program()[:size]
    yield "noise", random.randbytes(size)


def _program() -> bytes:
    library = importlib.util.find_spec("zstandard.backend_c")
    assert library is not None
    assert library.origin is not None
    return Path(library.origin).read_bytes()


def _records(random: Random, size: int) -> Iterator[bytes]:
    makers = [*records.MAKERS.values()]
    while size > 0:
        record = random.choice(makers)(random, f"{random.randrange(10**7):07}", "20240101")
        size -= len(record)
        yield record


def _database(random: Random, size: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        tree = Path(scratch)
        (tree / database.PATH).parent.mkdir()
        with database.opened(tree) as db:
            database.fill(db, random, size)
        return (tree / database.PATH).read_bytes()


def _measured(coder: Coder, chunks: Chunks, rounds: int) -> Figures:
    length = sum(map(len, chunks))
    squeezed = [coder.squeeze(chunk) or b"" for chunk in chunks]
    pairs = [(data, len(chunk)) for data, chunk in zip(squeezed, chunks, strict=True) if data]
    for data, chunk in zip(squeezed, chunks, strict=True):
        assert not data or coder.open(data, len(chunk)) == chunk
    stored = sum(len(data) or len(chunk) for data, chunk in zip(squeezed, chunks, strict=True))
    making = _fastest(lambda: [coder.squeeze(chunk) for chunk in chunks], rounds)
    opening = _fastest(lambda: [coder.open(*pair) for pair in pairs], rounds)
    return Figures(length / stored, length / making / 1e6, length / opening / 1e6 if pairs else 0.0)


def chosen(chunks: Chunks) -> tuple[str, int]:
    """Return which codecs the rule takes for these chunks, and what they take then."""
    stored, taken = 0, set[str]()
    for chunk in chunks:
        codec, squeezed = squeeze(chunk)
        assert unsqueeze(codec, squeezed, len(chunk)) == chunk
        stored += len(squeezed)
        taken.add(f"numbers of {squeezed[3]}" if codec is Codec.BLOSC2 else codec.name.lower())
    return ", ".join(sorted(taken)), stored


def _probing(chunks: Chunks) -> float:
    """Return the microseconds that the probe takes for one chunk."""
    return 1e6 * _fastest(lambda: [probe(chunk) for chunk in chunks], 5) / len(chunks)


def _fastest(act: Callable[[], object], rounds: int) -> float:
    taken: list[float] = []
    for _ in range(rounds):
        start = time.thread_time()
        act()
        taken.append(time.thread_time() - start)
    return min(taken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
