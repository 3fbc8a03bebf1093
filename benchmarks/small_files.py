"""Many small files: what a directory of marks, thumbnails or messages comes to.

python -m benchmarks.small_files DIR [--files 300000] [--directories 300]
"""

import argparse
from pathlib import Path
from random import Random

_BYTES = 128


def generate(tree: Path, files: int, directories: int, seed: int) -> None:
    """Make `files` files of 128 bytes, spread over `directories` directories."""
    random = Random(seed)
    for number in range(directories):
        directory = tree / f"{number:03}"
        directory.mkdir(parents=True)
        first, last = (files * at // directories for at in (number, number + 1))
        for name in range(first, last):
            (directory / f"{name:06}").write_bytes(random.randbytes(_BYTES))


def change(tree: Path, count: int, seed: int) -> list[Path]:
    """Rewrite `count` files in as many directories; return which."""
    random = Random(f"changes/{seed}")
    directories = random.sample(sorted(tree.iterdir()), count)
    changed = [random.choice(sorted(directory.iterdir())) for directory in directories]
    for path in changed:
        path.write_bytes(random.randbytes(_BYTES))
    return changed


def main() -> None:
    """Make such a tree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_files", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--directories", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generate(arguments.directory, arguments.files, arguments.directories, arguments.seed)


if __name__ == "__main__":
    main()
