"""Which files a drill draws from a snapshot: at random, each with the same chance.

Only directories that lead to a file drawn are read: counts in their entries tell where the n-th
file lies, so drawing a hundred out of a hundred million costs a hundred short ways down.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from random import Random

from agent.errors import RepositoryError
from agent.model.tree import Kind
from agent.restore.plan import Pages, entries, join, select


def draw(reader: Pages, root: bytes, count: int, random: Random) -> list[bytes]:
    """Return paths of `count` things that are no directories, or of all where there are fewer.

    What an unreadable page would have held is left out: the restore of everything reports it.
    """
    total = select(reader, root).files
    numbers = sorted(random.sample(range(total), min(count, total)))
    return list(_below(reader, root, b"", numbers))


def _below(reader: Pages, tree: bytes, path: bytes, numbers: Sequence[int]) -> Iterator[bytes]:
    """Yield the paths of the files with these numbers, counted from 0 below a directory."""
    first = 0
    for entry in entries(reader, tree):
        if not numbers:
            return
        if isinstance(entry, RepositoryError):
            continue
        is_directory = entry.kind is Kind.DIRECTORY
        end = first + (entry.files if is_directory else 1)
        split = bisect_left(numbers, end)
        mine, numbers = numbers[:split], numbers[split:]
        if mine and is_directory:
            inner = [number - first for number in mine]
            yield from _below(reader, entry.tree, join(path, entry.name), inner)
        elif mine:
            yield join(path, entry.name)
        first = end
