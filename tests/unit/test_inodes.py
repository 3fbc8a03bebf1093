"""Inode numbers: stable, never shared by mistake, held as long as the kernel holds them."""

import pytest

from agent.errors import NotFound
from agent.model.tree import Entry, Kind
from fsdriver import inodes
from fsdriver.inodes import ROOT_NUMBER, InodeTable
from fsdriver.nodes import Node, Scope

SCOPE = Scope(b"latest")


def node(identity: int, name: bytes = b"n", kind: Kind = Kind.FILE) -> Node:
    """Return a node whose number is made of `identity`."""
    return Node(Entry(name=name, kind=kind), SCOPE, identity.to_bytes(32, "little"))


def table() -> InodeTable:
    """Return an empty table."""
    return InodeTable(node(1 << 200, kind=Kind.DIRECTORY))


def test_number_is_the_node_s_own_before_and_after_it_was_forgotten() -> None:
    """Looked up, forgotten and looked up again: the same number."""
    held = table()
    number = held.remember(node(12345), ROOT_NUMBER)
    held.forget([(number, 1)])
    assert number not in held
    assert held.remember(node(12345), ROOT_NUMBER) == number


def test_kernel_holds_until_it_has_forgotten_every_lookup() -> None:
    """Three lookups are taken back by two forgets of two and one."""
    held = table()
    number = held.remember(node(7), ROOT_NUMBER)
    for _ in range(2):
        held.remember(node(7), ROOT_NUMBER)
    held.forget([(number, 2)])
    assert held[number].node.identity == node(7).identity
    held.forget([(number, 1)])
    with pytest.raises(NotFound):
        held[number]


def test_forgetting_what_is_not_held_is_no_error() -> None:
    """Unknown numbers, too many lookups, the root: nothing raises and the root stays."""
    held = table()
    number = held.remember(node(7), ROOT_NUMBER)
    held.forget([(999, 1), (number, 50), (number, 1), (ROOT_NUMBER, 1000)])
    assert len(held) == 1
    assert held[ROOT_NUMBER].node.is_directory


def test_two_nodes_with_one_number_are_told_apart() -> None:
    """A collision in 63 bits moves the later one to the next free number."""
    held = table()
    first = held.remember(node(7), ROOT_NUMBER)
    second = held.remember(node(7 + (1 << 63)), ROOT_NUMBER)  # equal in the 63 bits that count
    third = held.remember(node(7 + (1 << 64)), ROOT_NUMBER)
    assert (first, second, third) == (7, 8, 9)
    assert held.remember(node(7 + (1 << 63)), ROOT_NUMBER) == 8


def test_numbers_of_the_root_and_of_nothing_are_not_given() -> None:
    """0 means no inode and 1 the root, whatever a digest says."""
    held = table()
    assert held.remember(node(0), ROOT_NUMBER) > ROOT_NUMBER
    assert held.remember(node(1 + (1 << 63)), ROOT_NUMBER) > ROOT_NUMBER


def test_every_name_of_a_linked_file_is_known() -> None:
    """Locking must invalidate each of them."""
    held = table()
    number = held.remember(node(7, b"a"), ROOT_NUMBER)
    held.remember(node(7, b"b"), 55)
    held.remember(node(7, b"a"), ROOT_NUMBER)
    assert held[number].names == ((ROOT_NUMBER, b"a"), (55, b"b"))


def test_live_lists_children_before_parents() -> None:
    """The kernel drops a parent's children with it, so they come first."""
    held = table()
    parent = held.remember(node(5, b"d", Kind.DIRECTORY), ROOT_NUMBER)
    child = held.remember(node(6, b"f"), parent)
    assert [number for number, _ in held.live()] == [child, parent, ROOT_NUMBER]


def test_too_many_held_are_named_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that nobody has open go first, then directories; never the root."""
    monkeypatch.setattr(inodes, "LIVE_TARGET", 3)
    held = table()
    directory = held.remember(node(5, b"d", Kind.DIRECTORY), ROOT_NUMBER)
    opened = held.remember(node(6, b"open"), directory)
    held[opened].opened += 1
    assert held.excess(10) == []
    held.remember(node(7, b"old"), directory)
    held.remember(node(8, b"new"), directory)
    assert held.excess(10) == [(directory, b"old"), (directory, b"new")]
    assert held.excess(1) == [(directory, b"old")]
    monkeypatch.setattr(inodes, "LIVE_TARGET", 0)
    held.forget([(7, 1), (8, 1)])
    assert held.excess(10) == [(ROOT_NUMBER, b"d")]
