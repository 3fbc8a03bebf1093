"""The filter of ids: whatever was added matches, and most of the rest does not."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agent.repository.idfilter import IdFilter


@given(st.lists(st.binary(min_size=32, max_size=32)), st.integers(0, 20))
def test_whatever_was_added_matches(ids: list[bytes], count: int) -> None:
    """Never a wrong no, in the order of asking."""
    some = IdFilter()
    some.add(ids[:count])
    assert [id_ for id_ in some.matching(ids) if id_ in ids[:count]] == [
        id_ for id_ in ids if id_ in ids[:count]
    ]


def test_most_others_do_not_match() -> None:
    """That is what it is for: of 100,000 ids added, one other in forty is taken for one."""
    random = Random(12)
    some = IdFilter()
    some.add(random.randbytes(32) for _ in range(100_000))
    others = [random.randbytes(32) for _ in range(10_000)]
    assert len(some.matching(others)) < 500
