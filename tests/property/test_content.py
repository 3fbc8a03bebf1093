"""Reading a file at any place gives the bytes that are there, holes as zeros."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ObjectDamaged
from agent.model.tree import HOLE, Entry, pack_extents
from fsdriver.attributes import stored_bytes
from fsdriver.content import Content
from tests.fakes.tree_reader import TreeReaderFake

part = st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 50))


def file_of(parts: list[bytes | int]) -> tuple[TreeReaderFake, Entry, bytes]:
    """Return a reader, a file made of chunks and holes, and its bytes."""
    reader = TreeReaderFake()
    content, depth = reader.put_content(parts)
    data = b"".join(bytes(one) if isinstance(one, int) else one for one in parts)
    return reader, Entry(name=b"f", size=len(data), content=content, depth=depth), data


@given(
    st.one_of(st.lists(part, max_size=8), st.lists(part, min_size=65, max_size=90)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 4000)), min_size=1, max_size=5),
)
def test_any_read_is_the_bytes_at_that_place(
    parts: list[bytes | int], reads: list[tuple[int, int]]
) -> None:
    """For files with and without content pages, in any order, also past the end."""
    reader, entry, data = file_of(parts)
    content = Content(entry, reader)
    for offset, size in reads:
        expected = data[offset : offset + size]
        assert bytes(content.read(offset, size)) == expected
        assert bytes(content.read_cached(offset, size) or b"") == expected


@given(st.lists(part, min_size=1, max_size=90), st.integers(0, 3000), st.integers(1, 3000))
def test_chunks_of_a_stretch_are_those_that_reading_it_takes(
    parts: list[bytes | int], offset: int, size: int
) -> None:
    """Reading ahead fetches exactly what the read will need."""
    reader, entry, _ = file_of(parts)
    content = Content(entry, reader)
    reader.prefetch(content.chunks(offset, size))
    content.read(offset, size)
    assert set(reader.fetched) == set(reader.prefetched)


def test_nothing_is_read_that_is_not_in_memory() -> None:
    """The event loop gets None rather than wait: for a cold chunk, and for content pages."""
    reader, entry, data = file_of([b"a" * 10, 20, b"b" * 10])
    content = Content(entry, reader)
    assert content.read_cached(0, 40) is None
    assert content.read_cached(10, 20) == bytes(20)  # a hole needs no chunk
    content.read(0, 40)
    assert content.read_cached(0, 40) == data
    reader, entry, data = file_of([b"%03d" % n for n in range(100)])
    assert entry.depth == 1
    reader.warm.update(reader.chunks)
    content = Content(entry, reader)
    assert content.read_cached(0, 9) is None
    content.read(0, 1)
    assert content.read_cached(0, 300) == data


def test_extents_that_end_before_the_file_are_damage() -> None:
    """A file is never shortened or padded to what was found."""
    reader, entry, _ = file_of([b"a" * 10])
    longer = Entry(name=b"f", size=20, content=entry.content)
    with pytest.raises(ObjectDamaged):
        Content(longer, reader).read(0, 20)


def test_chunk_of_another_length_is_damage() -> None:
    """An extent that lies about its chunk would shift everything after it."""
    reader, _, _ = file_of([b"a" * 10])
    chunk = next(iter(reader.chunks))
    lying = Entry(name=b"f", size=12, content=pack_extents([(chunk, 12)]))
    with pytest.raises(ObjectDamaged):
        Content(lying, reader).read(0, 12)


def test_blocks_count_data_only() -> None:
    """Holes cost nothing."""
    assert stored_bytes(Entry(name=b"f", size=30, content=pack_extents([(HOLE, 30)]))) == 0
    _, entry, _ = file_of([b"a" * 10, 1000, b"b"])
    assert stored_bytes(entry) == 11
