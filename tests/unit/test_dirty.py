"""What may have changed: nothing is forgotten, and memory is bounded."""

from agent.backup.dirty import MAX_DIRECTORIES, MAX_NAMES, DirtySet


def test_names_are_kept_by_directory_and_taken_once() -> None:
    """What was taken is not taken again."""
    dirty = DirtySet()
    for path in (b"a", b"d/b", b"d/c", b"d/b"):
        dirty.add(path)
    taken = dirty.take()
    assert taken.names == {b"": frozenset({b"a"}), b"d": frozenset({b"b", b"c"})}
    assert not taken.everything
    assert dirty.take().is_empty


def test_a_new_directory_is_looked_at_once_more() -> None:
    """The second look lists it; there is no third."""
    dirty = DirtySet()
    dirty.add_new(b"d/new")
    assert dirty.take().names == {b"d": frozenset({b"new"})}
    assert dirty.has_more
    assert dirty.take().names == {b"d/new": None}
    assert dirty.take().is_empty


def test_the_source_itself_has_no_name_in_it() -> None:
    """A change of the source's own metadata is a change without names."""
    dirty = DirtySet()
    dirty.add(b"")
    assert dirty.take().names == {b"": frozenset()}


def test_too_many_names_become_the_whole_directory() -> None:
    """Beyond the bound a directory is listed, and further names cost nothing."""
    dirty = DirtySet()
    for number in range(MAX_NAMES + 2):
        dirty.add(b"d/%d" % number)
    assert dirty.take().names == {b"d": None}


def test_too_many_directories_become_everything() -> None:
    """Beyond the bound the whole source is scanned; what comes after is in that."""
    dirty = DirtySet()
    for number in range(MAX_DIRECTORIES + 2):
        dirty.add(b"%d/name" % number)
    taken = dirty.take()
    assert taken.everything
    assert not taken.names
    assert dirty.take().is_empty


def test_lost_events_make_everything_dirty_and_later_ones_count_after_the_take() -> None:
    """Everything is taken once; what comes later is kept by name again."""
    dirty = DirtySet()
    dirty.add_everything()
    dirty.add(b"a")
    assert dirty.take().everything
    dirty.add(b"b")
    assert dirty.take().names == {b"": frozenset({b"b"})}
