"""The storage contract (agent/store/base.py), rule by rule, against everything that claims it."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import ObjectDamaged, ObjectExists, ObjectMissing, StoreUnavailable
from agent.store.base import MAX_NAME, Listed, Store
from agent.store.local import LocalStore
from agent.store.memory import MemoryStore
from tests.fakes.faulty_store import FaultyStore

MiB = 1024 * 1024
NAME = "packs/ab/abcdef"

MAKERS: dict[str, Callable[[Path], Store]] = {
    "local": LocalStore.create,
    "memory": lambda _: MemoryStore(),
    "faulty without a fault": lambda _: FaultyStore(MemoryStore()),
}


@pytest.fixture(params=MAKERS.values(), ids=list(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store."""
    made: Store = request.param(tmp_path / "repository")
    yield made
    if isinstance(made, LocalStore):
        made.close()


def names(store: Store, prefix: str = "") -> list[str]:
    """Return what is listed, sorted."""
    return sorted(listed.name for listed in store.list(prefix))


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """Call `work` from `count` threads that start together; return what it returned or raised."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait()
        try:
            return work(number)
        except ObjectExists as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# -- rule 1: names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/.b",
        ".tmp-1",
        "A",
        "a b",
        "a_b",
        "a\n",
        "a\0",
        "ä",
        "x" * (MAX_NAME + 1),
    ],
)
def test_what_is_no_name_is_refused_everywhere(store: Store, name: str) -> None:
    """A name from elsewhere cannot leave the repository, nor hide in it."""
    operations: list[Callable[[], object]] = [
        lambda: store.put(name, [b"x"]),
        lambda: store.get(name),
        lambda: store.get_range(name, 0, 0),
        lambda: store.size(name),
        lambda: store.delete(name),
    ]
    for operation in operations:
        with pytest.raises(ValueError, match="not an object name"):
            operation()
    assert names(store) == []


@pytest.mark.parametrize("name", ["a", "-", "0.1/a-b", "a/b/c/d/e", "x" * MAX_NAME])
def test_every_name_is_kept_as_it_is(store: Store, name: str) -> None:
    """What rule 1 allows, works: the longest and the oddest, too."""
    store.put(name, [b"x"])
    assert store.get(name) == b"x"
    assert list(store.list("")) == [Listed(name, 1)]


# -- rules 2 to 4: put and get --------------------------------------------------------------------


def test_get_returns_what_was_put(store: Store) -> None:
    """Parts are joined in their order, whatever their types."""
    store.put(NAME, [b"one", bytearray(b"two"), memoryview(b"_three_")[1:6], b""])
    assert store.get(NAME) == b"onetwothree"
    assert store.size(NAME) == 11


def test_parts_of_wide_items_are_bytes(store: Store) -> None:
    """A view of numbers counts by its bytes."""
    numbers = memoryview(bytes(range(16))).cast("I")
    store.put(NAME, [numbers, numbers])
    assert store.get(NAME) == bytes(range(16)) * 2


@pytest.mark.parametrize("parts", [[], [b""], [b"", b""]])
def test_an_empty_object_is_an_object(store: Store, parts: list[bytes]) -> None:
    """Nothing is something that was stored."""
    store.put(NAME, parts)
    assert (store.get(NAME), store.size(NAME)) == (b"", 0)
    assert store.get_range(NAME, 0, 0) == b""
    assert names(store) == [NAME]


def test_an_object_larger_than_a_pack_is_whole(store: Store) -> None:
    """Sizes beyond what one system call moves at a time change nothing."""
    parts = [random.Random(number).randbytes(9 * MiB + number) for number in range(5)]
    store.put(NAME, parts)
    whole = b"".join(parts)
    assert store.size(NAME) == len(whole)
    assert store.get(NAME) == whole
    assert store.get_range(NAME, 9 * MiB - 5, 10 * MiB) == whole[9 * MiB - 5 : 19 * MiB - 5]


def test_an_object_of_many_parts_is_whole(store: Store) -> None:
    """More parts than one writev takes, of every small size, empty ones among them."""
    parts = [bytes([number % 251]) * (number % 7) for number in range(5000)]
    store.put(NAME, parts)
    assert store.get(NAME) == b"".join(parts)


def test_the_same_bytes_again_change_nothing(store: Store) -> None:
    """However they are cut into parts."""
    data = os.urandom(3 * MiB)
    store.put(NAME, [data])
    store.put(NAME, [data[:1], data[1 : 2 * MiB], data[2 * MiB :]])
    assert store.get(NAME) == data
    assert names(store) == [NAME]


@pytest.mark.parametrize("other", [b"", b"contenT", b"content+", b"conten"])
def test_other_bytes_under_a_taken_name_are_refused(store: Store, other: bytes) -> None:
    """An object never changes."""
    store.put(NAME, [b"content"])
    with pytest.raises(ObjectExists, match=NAME):
        store.put(NAME, [other])
    assert store.get(NAME) == b"content"
    assert names(store) == [NAME]


def test_what_is_not_there_is_missing(store: Store) -> None:
    """The error names the object."""
    store.put("packs/ab/other", [b"x"])
    for name in (NAME, "none/of/this"):
        operations: list[Callable[[str], object]] = [
            store.get,
            store.size,
            lambda name: store.get_range(name, 0, 0),
        ]
        for operation in operations:
            with pytest.raises(ObjectMissing, match=name):
                operation(name)


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 10), (3, 4), (9, 1), (10, 0)])
def test_a_range_inside_is_exact(store: Store, offset: int, length: int) -> None:
    """Up to and including the empty range at the end."""
    store.put(NAME, [b"01234", b"56789"])
    assert store.get_range(NAME, offset, length) == b"0123456789"[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (2**40, 1), (1, 2**40)])
def test_a_range_past_the_end_is_damage(store: Store, offset: int, length: int) -> None:
    """Never fewer bytes than were asked for, and no memory set aside for what cannot be."""
    store.put(NAME, [b"0123456789"])
    with pytest.raises(ObjectDamaged, match=NAME):
        store.get_range(NAME, offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (5, -2)])
def test_a_negative_range_is_a_bug(store: Store, offset: int, length: int) -> None:
    """It does not count from the end."""
    store.put(NAME, [b"0123456789"])
    with pytest.raises(ValueError, match="not a range"):
        store.get_range(NAME, offset, length)


# -- rule 7: drafts -------------------------------------------------------------------------------


def test_a_draft_is_an_object_once_it_is_kept(store: Store) -> None:
    """Its pieces in their order, from buffers that were used again meanwhile; before, nothing."""
    draft = store.begin()
    buffer = bytearray(b"one")
    draft.write(buffer)
    buffer[:] = b"two"
    draft.write(memoryview(buffer))
    draft.write(b"")
    draft.write(memoryview(bytes(range(16))).cast("I"))
    assert names(store) == []
    draft.keep(NAME)
    assert store.get(NAME) == b"onetwo" + bytes(range(16))
    assert names(store) == [NAME]


def test_an_empty_draft_is_an_empty_object(store: Store) -> None:
    """As an empty put is."""
    store.begin().keep(NAME)
    assert (store.get(NAME), store.size(NAME)) == (b"", 0)


def test_drafts_do_not_meet(store: Store) -> None:
    """Several are written at once, and kept in any order."""
    first, second = store.begin(), store.begin()
    first.write(b"1")
    second.write(b"2")
    first.write(b"1")
    second.keep("b")
    first.keep("a")
    assert (store.get("a"), store.get("b")) == (b"11", b"2")


@pytest.mark.parametrize("written", [b"content", b"contenT", b""])
def test_a_draft_keeps_to_what_is_stored_already(store: Store, written: bytes) -> None:
    """The same bytes are there already; others are refused (rule 3)."""
    store.put(NAME, [b"content"])
    draft = store.begin()
    draft.write(written)
    if written == b"content":
        draft.keep(NAME)
    else:
        with pytest.raises(ObjectExists, match=NAME):
            draft.keep(NAME)
    assert store.get(NAME) == b"content"
    assert names(store) == [NAME]


@pytest.mark.parametrize("end", ["kept", "dropped", "refused"])
def test_a_draft_that_is_over_takes_nothing(store: Store, end: str) -> None:
    """Neither a piece nor a name; to drop it once more is nothing."""
    draft = store.begin()
    draft.write(b"x")
    if end == "kept":
        draft.keep(NAME)
    elif end == "dropped":
        draft.drop()
    else:
        store.put(NAME, [b"y"])
        with pytest.raises(ObjectExists):
            draft.keep(NAME)
    draft.drop()
    before = {name: store.get(name) for name in names(store)}
    with pytest.raises(StoreUnavailable):
        draft.write(b"more")
    with pytest.raises(StoreUnavailable):
        draft.keep("other")
    assert {name: store.get(name) for name in names(store)} == before
    assert before == {"kept": {NAME: b"x"}, "dropped": {}, "refused": {NAME: b"y"}}[end]


@pytest.mark.parametrize("name", ["", "A", "../x", ".tmp-1"])
def test_a_draft_gets_no_impossible_name(store: Store, name: str) -> None:
    """As a put does not."""
    draft = store.begin()
    draft.write(b"x")
    with pytest.raises(ValueError, match="not an object name"):
        draft.keep(name)
    assert names(store) == []


# -- rule 5: list ---------------------------------------------------------------------------------


def test_a_listing_has_every_object_below_its_prefix_once(store: Store) -> None:
    """With its size; a prefix ends at a slash, and takes no neighbour along."""
    stored = {"a/b/1": 1, "a/b/2": 2, "a/bc/3": 3, "a/b.4": 4, "ab/5": 5, "z": 0}
    for name, size in stored.items():
        store.put(name, [bytes(size)])
    assert sorted(store.list("")) == sorted(Listed(*item) for item in stored.items())
    assert sorted(store.list("a/b/")) == [Listed("a/b/1", 1), Listed("a/b/2", 2)]
    assert names(store, "a/") == ["a/b.4", "a/b/1", "a/b/2", "a/bc/3"]


def test_below_what_is_not_there_lies_nothing(store: Store) -> None:
    """Nor below an empty repository."""
    assert names(store) == []
    store.put("a/b", [b"x"])
    assert names(store, "a/c/") == []
    assert names(store, "c/") == []


@pytest.mark.parametrize("prefix", ["a", "a/b", "/", "/a/", "a//", "../", "a/../", ".tmp/"])
def test_what_is_no_prefix_is_refused(store: Store, prefix: str) -> None:
    """Half a name is no prefix: stores would differ in what it means."""
    with pytest.raises(ValueError, match="not a prefix"):
        list(store.list(prefix))


def test_a_listing_outlives_changes(store: Store) -> None:
    """Puts and deletes meanwhile neither break it nor take from it what stays."""
    before = {f"packs/{number % 16:02x}/{number:04x}" for number in range(200)}
    for name in sorted(before):
        store.put(name, [b"x"])
    gone = set(sorted(before)[::5])
    listing = store.list("packs/")
    seen = [next(listing).name]
    for name in gone:
        store.delete(name)
    for number in range(50):
        store.put(f"packs/ff/new-{number}", [b"y"])
    seen += [listed.name for listed in listing]
    assert len(seen) == len(set(seen))
    assert set(seen) >= before - gone


# -- rule 6: delete -------------------------------------------------------------------------------


def test_delete_removes_one_object(store: Store) -> None:
    """And leaves its neighbours."""
    store.put(NAME, [b"x"])
    store.put(NAME + "0", [b"y"])
    store.delete(NAME)
    assert names(store) == [NAME + "0"]
    with pytest.raises(ObjectMissing):
        store.get(NAME)


def test_deleting_twice_is_deleting(store: Store) -> None:
    """So is deleting what never was, wherever."""
    store.put(NAME, [b"x"])
    store.delete(NAME)
    store.delete(NAME)
    store.delete("none/of/this")
    assert names(store) == []


def test_a_name_that_was_deleted_is_free(store: Store) -> None:
    """For other bytes, too."""
    store.put(NAME, [b"x"])
    store.delete(NAME)
    store.put(NAME, [b"other"])
    assert store.get(NAME) == b"other"


# -- threads --------------------------------------------------------------------------------------


def test_of_many_writers_of_one_name_one_wins(store: Store) -> None:
    """The others learn it, and what is stored is the winner's, whole."""
    contents = [bytes([number]) * (100_000 + number) for number in range(8)]
    results = in_threads(8, lambda number: store.put(NAME, [contents[number]]))
    winners = [number for number, result in enumerate(results) if result is None]
    assert len(winners) == 1
    assert store.get(NAME) == contents[winners[0]]
    assert names(store) == [NAME]


def test_many_writers_of_the_same_object_all_succeed(store: Store) -> None:
    """Two agents may store one chunk at once."""
    data = os.urandom(300_000)
    assert in_threads(8, lambda _: store.put(NAME, [data])) == [None] * 8
    assert store.get(NAME) == data
    assert names(store) == [NAME]


def test_threads_do_not_mix_what_they_read_and_list(store: Store) -> None:
    """Each sees all of it, while others write."""
    expected = {f"a/{number:02x}": bytes([number]) * 5000 for number in range(32)}
    for name, data in expected.items():
        store.put(name, [data])

    def work(number: int) -> bool:
        rounds = []
        for step in range(20):
            store.put(f"b/{number}/{step}", [bytes(step)])
            rounds.append(names(store, "a/") == sorted(expected))
            rounds += [store.get(name) == data for name, data in expected.items()]
        return all(rounds)

    assert in_threads(6, work) == [True] * 6
    assert len(names(store, "b/")) == 120


def test_a_reader_sees_nothing_or_the_whole(store: Store) -> None:
    """While an object is put, it is missing, and then it is all there."""
    data = os.urandom(4 * MiB)
    done = threading.Event()

    def read() -> list[int]:
        seen: list[int] = []
        while not seen or not done.is_set():
            try:
                seen.append(len(store.get(NAME)))
            except ObjectMissing:
                seen.append(-1)
            seen += [listed.size for listed in store.list("")]
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        store.put(NAME, [data[start : start + 4096] for start in range(0, len(data), 4096)])
        done.set()
        assert set().union(*(reader.result() for reader in readers)) <= {-1, len(data)}
