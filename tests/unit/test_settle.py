"""When a snapshot is due: after quiet, and never too late under constant change."""

from agent.backup.settle import Settle


def test_nothing_is_due_before_a_change() -> None:
    """Without a change there is nothing to wait for."""
    settle = Settle(5, 60)
    assert settle.due() is None
    assert not settle.is_waiting


def test_each_change_puts_the_snapshot_off_until_it_is_quiet() -> None:
    """The settle time runs from the last change."""
    settle = Settle(5, 60)
    for now in (100, 103, 107):
        settle.changed(now)
        assert settle.due() == now + 5


def test_constant_change_does_not_put_it_off_for_ever() -> None:
    """The longest wait runs from the first change."""
    settle = Settle(5, 60)
    for now in range(100, 200):
        settle.changed(now)
    assert settle.due() == 160


def test_what_changes_after_a_snapshot_began_waits_anew() -> None:
    """A new wait has a first change of its own."""
    settle = Settle(5, 60)
    settle.changed(100)
    settle.taken()
    assert settle.due() is None
    settle.changed(158)
    assert settle.due() == 163


def test_a_settle_time_above_the_longest_wait_is_cut_to_it() -> None:
    """The longest wait wins."""
    settle = Settle(90, 60)
    settle.changed(0)
    assert settle.due() == 60
