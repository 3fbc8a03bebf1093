"""The rule that chooses a codec, on the kinds of data that its benchmark has."""

import pytest
import zstandard

from agent.encode.blosc import Compressor
from agent.encode.numeric import ITEM_BYTES, squeeze_numbers
from agent.encode.probe import probe
from agent.encode.tools import Tools
from agent.model.location import Codec
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


def _probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with the sizes of items that a probe tries."""
    tried: list[int] = []
    real = Tools.compressor

    def watched(self: Tools, item_bytes: int, block_bytes: int) -> Compressor:
        tried.append(item_bytes)
        return real(self, item_bytes, block_bytes)

    monkeypatch.setattr(Tools, "compressor", watched)
    return tried


@pytest.mark.parametrize("name", ["CT", "MR", "CR", "XA"])
def test_what_a_header_says_of_its_pixels_spares_trying_the_rest(
    name: str, data: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice is that of a full probe."""
    chunk = memoryview(data[name])[:MiB]
    expected = probe(chunk)
    tried = _probes(monkeypatch)
    assert probe(chunk, 2) == expected == (Codec.BLOSC2, 2)
    assert tried == [0, 2]


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("likely", [-1, 0, 5, 1 << 40])
def test_a_word_that_cannot_be_changes_nothing(
    name: str, data: dict[str, bytes], likely: int
) -> None:
    """A header may say anything."""
    chunk = memoryview(data[name])[:MiB]
    assert probe(chunk, likely) == probe(chunk)


@pytest.mark.parametrize("likely", ITEM_BYTES)
@pytest.mark.parametrize("name", ["records", "program", "noise"])
def test_a_word_that_no_sample_bears_out_is_not_taken(
    name: str, data: dict[str, bytes], likely: int
) -> None:
    """Text and noise stay what they are, whatever is said of them."""
    chunk = memoryview(data[name])[:MiB]
    assert probe(chunk, likely) == probe(chunk)
