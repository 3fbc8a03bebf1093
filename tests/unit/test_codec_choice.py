"""The rule that chooses a codec, on the kinds of data that its benchmark has."""

import pytest
import zstandard

from agent.encode.numeric import ITEM_BYTES, squeeze_numbers
from benchmarks.codecs import MiB, chosen, kinds

TAKEN = {
    "CT": "numbers of 2",
    "MR": "numbers of 2",
    "CR": "numbers of 2",
    "XA": "numbers of 2",
    "US": "numbers",  # of 1 or of 3 is much the same
    "CT, big end first, cut within": "numbers of 2",
    "CT, as floating point": "numbers of 4",
    "CT, 8 bit": "numbers of 1",
    "records": "zstd",
    "database": "zstd",
    "program": "zstd",
    "noise": "raw",
}


@pytest.fixture(scope="module")
def data() -> dict[str, bytes]:
    """Return two MiB of each kind."""
    return dict(kinds(2 * MiB))


def test_each_kind_is_expected_to_become_something(data: dict[str, bytes]) -> None:
    """A new kind gets a row above."""
    assert data.keys() == TAKEN.keys()


@pytest.mark.parametrize("name", TAKEN)
def test_the_choice_is_the_best_or_close_to_it(name: str, data: dict[str, bytes]) -> None:
    """Within 5 % of the smallest that any one way makes of a chunk."""
    chunk = memoryview(data[name])[:MiB]
    taken, stored = chosen([chunk])
    sizes = [len(chunk), len(zstandard.compress(chunk, 3))]
    for item in ITEM_BYTES:
        numbers = squeeze_numbers(chunk, item, len(chunk))
        if numbers is not None:
            sizes.append(len(numbers))
    assert taken.startswith(TAKEN[name])
    assert stored <= 1.05 * min(sizes)
