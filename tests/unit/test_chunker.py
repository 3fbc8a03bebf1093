"""Cuts: the same whether a file comes whole or in pieces, and the vault's own."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.encode.chunker import (
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    Chunker,
    MiB,
)

SEED = 0x1234_5678_9ABC_DEF1
DATA = random.Random(7).randbytes(14 * MiB)
CHUNKER = Chunker(SEED)


def _streamed(data: bytes, pieces: list[int]) -> list[bytes]:
    """Cut `data` as a reader does: piece by piece, the uncut rest in front of the next."""
    chunks: list[bytes] = []
    rest, at = b"", 0
    for size in pieces:
        rest += data[at : at + size]
        at += size
        chunks.extend(bytes(chunk) for chunk in CHUNKER.cut_some(memoryview(rest)))
        rest = data[sum(map(len, chunks)) : at]
    rest += data[at:]
    return chunks + [bytes(chunk) for chunk in CHUNKER.cut(memoryview(rest))]


@settings(max_examples=15)
@given(
    st.integers(0, len(DATA)),
    st.lists(st.integers(1, 6 * MiB), max_size=6),
)
def test_a_stream_is_cut_as_the_whole_is(length: int, pieces: list[int]) -> None:
    """Where the reader's buffer ends must not show, or nothing would deduplicate."""
    data = DATA[:length]
    assert _streamed(data, pieces) == [bytes(c) for c in CHUNKER.cut(memoryview(data))]


def test_a_file_without_any_cut_is_cut_at_the_most() -> None:
    """Constant data has no content to cut by; streamed or whole, it is cut alike."""
    data = bytes(10 * MiB)
    whole = [len(chunk) for chunk in CHUNKER.cut(memoryview(data))]
    assert max(whole) <= MAX_CHUNK_BYTES
    assert [len(chunk) for chunk in _streamed(data, [3 * MiB, 5 * MiB])] == whole


def test_chunks_keep_their_bounds_and_add_up() -> None:
    """Between the least and the most, but for the last; in order, nothing lost."""
    chunks = [bytes(chunk) for chunk in CHUNKER.cut(memoryview(DATA))]
    assert b"".join(chunks) == DATA
    assert all(MIN_CHUNK_BYTES <= len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks[:-1])
    assert len(DATA) / len(chunks) > 0.6 * MiB


def test_an_empty_file_has_no_chunk_and_a_small_one_is_one() -> None:
    """Up to the minimum nothing is cut."""
    assert list(CHUNKER.cut(memoryview(b""))) == []
    small = memoryview(DATA)[:MIN_CHUNK_BYTES]
    assert [bytes(chunk) for chunk in CHUNKER.cut(small)] == [bytes(small)]


def test_an_insertion_moves_few_cuts() -> None:
    """Content defines the cuts: after an edit they are found again."""
    before = {bytes(chunk) for chunk in CHUNKER.cut(memoryview(DATA))}
    after = {bytes(chunk) for chunk in CHUNKER.cut(memoryview(b"edit" + DATA))}
    assert len(after - before) <= 3


def test_cuts_stay_where_they_were() -> None:
    """Another release of the library that cuts elsewhere would store everything once more."""
    lengths = [len(chunk) for chunk in CHUNKER.cut(memoryview(DATA))]
    assert lengths[:6] == [858068, 906275, 447601, 774835, 854814, 537691]


def test_another_vault_cuts_elsewhere() -> None:
    """Positions do not fingerprint a known file for who lacks the id key."""
    mine = [len(chunk) for chunk in CHUNKER.cut(memoryview(DATA))]
    other = [len(chunk) for chunk in Chunker(SEED + 2).cut(memoryview(DATA))]
    assert mine != other
