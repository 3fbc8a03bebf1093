"""How small a hospital-like tree could get at all: the limit that noise sets to every program.

    python -m benchmarks.entropy DIR

Uncompressed images count as their noise alone, as if everything else in them came for nothing;
compressed ones as they are; records and the database as Zstandard's highest level makes of them
end to end.  A program that came to this would know the painter's pictures by heart.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import zstandard

from benchmarks import painters
from benchmarks.results import Limit

_TEXT_LEVEL = 19
_WINDOW_LOG = 27  # 128 MB: everything is in sight


def limit(tree: Path) -> Limit:
    """Return how small `tree` could get."""
    noise, compressed = 0.0, 0
    seen: set[bytes] = set()
    for path in _files(tree / "pacs"):
        dataset = pydicom.dcmread(path)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            if dataset.PixelData not in seen:  # RLE pixels come more than once
                compressed += len(dataset.PixelData)
                seen.add(dataset.PixelData)
        else:
            modality = getattr(painters, dataset.Modality)
            noise += modality.noise_bytes * int(dataset.get("NumberOfFrames") or 1)
    return Limit(noise, compressed, _squeezed(tree))


def _squeezed(tree: Path) -> int:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _TEXT_LEVEL, window_log=_WINDOW_LOG, enable_ldm=True
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    size = 0
    for path in [*_files(tree / "records"), *_files(tree / "database")]:
        size += len(stream.compress(path.read_bytes()))
    return size + len(stream.flush())


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def main() -> None:
    """Print the limit of a tree, in bytes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.entropy", description=__doc__)
    parser.add_argument("directory", type=Path)
    print(json.dumps(limit(parser.parse_args().directory)._asdict()))


if __name__ == "__main__":
    main()
