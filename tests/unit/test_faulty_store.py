"""The faulty store fails exactly when and how it was told to."""

import pytest

from agent.errors import ObjectMissing, StoreFull, StoreUnavailable
from agent.store.memory import MemoryStore
from tests.fakes.faulty_store import Fault, FaultyStore


@pytest.mark.parametrize(
    ("fault", "stored"), [(Fault.BEFORE, None), (Fault.AFTER, b"content!"), (Fault.TORN, b"cont")]
)
def test_a_put_fails_as_told(fault: Fault, stored: bytes | None) -> None:
    """At its number only, with the error asked for, having stored so much."""
    inner = MemoryStore()
    store = FaultyStore(inner, fail_at=2, fault=fault, error=StoreFull("full"))
    store.put("first", [b"x"])
    with pytest.raises(StoreFull):
        store.put("second", [b"con", b"tent!"])
    store.put("third", [b"y"])
    assert {one.name: inner.get(one.name) for one in inner.list("")} == {
        "first": b"x",
        "third": b"y",
    } | ({"second": stored} if stored else {})


def test_only_what_is_counted_fails() -> None:
    """Reads between puts do not shift the fault."""
    store = FaultyStore(MemoryStore(), fail_at=2, counted={"put"})
    store.put("a", [b"x"])
    assert (store.get("a"), store.size("a"), len(list(store.list("")))) == (b"x", 1, 1)
    with pytest.raises(StoreUnavailable):
        store.put("b", [b"x"])
    assert store.operations == 2


def test_a_store_that_stays_down_answers_nothing_more() -> None:
    """Of any kind, counted or not, and nothing more takes effect."""
    inner = MemoryStore()
    store = FaultyStore(inner, fail_at=1, counted={"put"}, fault=Fault.AFTER, stays_down=True)
    with pytest.raises(StoreUnavailable):
        store.put("a", [b"x"])
    for operation in (store.get, store.size, store.delete, lambda _: list(store.list(""))):
        with pytest.raises(StoreUnavailable):
            operation("a")
    with pytest.raises(StoreUnavailable):
        store.put("b", [b"y"])
    assert inner.get("a") == b"x"
    with pytest.raises(ObjectMissing):
        inner.get("b")


def test_a_full_store_takes_nothing_until_it_is_healed() -> None:
    """From the n-th operation on no put comes through, whatever kind that was; reads go on."""
    inner = MemoryStore()
    store = FaultyStore(inner, fail_at=2, fault=Fault.FULL)
    store.put("a", [b"x"])
    assert store.get("a") == b"x"
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.put("b", [b"y"])
    assert [one.name for one in store.list("")] == ["a"]
    store.heal()
    store.put("b", [b"y"])
    assert inner.get("b") == b"y"


def test_a_delayed_operation_sees_what_happened_meanwhile() -> None:
    """It is held up at its number, and then does what it should."""
    inner = MemoryStore()
    store = FaultyStore(
        inner, fail_at=2, fault=Fault.DELAYED, meanwhile=lambda: inner.put("theirs", [b"y"])
    )
    store.put("ours", [b"x"])
    assert sorted(one.name for one in store.list("")) == ["ours", "theirs"]


def test_unknown_operations_are_refused() -> None:
    """A misspelt kind would never fail, and its test would prove nothing."""
    with pytest.raises(ValueError, match="puts"):
        FaultyStore(MemoryStore(), counted={"puts"})
