"""Include and exclude patterns: what cannot work is refused when it is loaded, not at some name."""

import pytest

from agent.backup.patterns import MAX_ANY_DEPTH, MAX_STARS, Patterns
from agent.errors import ConfigInvalid


@pytest.mark.parametrize("pattern", ["[z-a]", "!", "a/***b*/c", "*a*b*c*d", "**/x/**/y/**"])
def test_a_pattern_that_is_wrong_or_could_take_for_ever_is_refused(pattern: str) -> None:
    """A range the wrong way round; stars for which a file's name could be made."""
    with pytest.raises(ConfigInvalid):
        Patterns(include=[pattern])
    with pytest.raises(ConfigInvalid):
        Patterns(exclude=["fine", pattern])


def test_as_many_stars_as_are_taken_decide_in_bounded_time() -> None:
    """The longest names there can be, made to match all but the end: seconds would hang here."""
    most = "a".join("*" * MAX_STARS) + "b"
    deep = "/".join(["**", most] * MAX_ANY_DEPTH)
    patterns = Patterns(exclude=["# *a*comment*of*stars*", most, deep])
    for path in (b"a" * 255, b"/".join([b"a" * 255] * 15), b"/".join([b"a"] * 2047)):
        assert patterns.takes(path, is_directory=False)
    assert not patterns.takes(b"aaab", is_directory=False)
