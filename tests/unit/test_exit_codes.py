"""One list of statuses: in the classes, in the tree they are drawn as, in docs/exit-codes.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.errors import VitrineError

TABLE = Path(__file__).parents[2] / "docs" / "exit-codes.md"
DRAWN = re.compile(r"[├└]── (?P<name>\w+) +(?P<status>\d+)")
NOT_OF_THE_TREE = {0, 70, 130}  # done; a bug; Ctrl-C
ABSTRACT = {"RepositoryError", "StoreError"}  # documented as the first number of their range


def tree(kind: type[VitrineError] = VitrineError) -> Iterator[type[VitrineError]]:
    """Yield the errors of the tree, without its base."""
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from tree(below)


def documented() -> dict[int, str]:
    """Return each status of the table, and what its row says."""
    found: dict[int, str] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 4 or not cells[1][:1].isdigit():
            continue
        for part in cells[1].split(", "):
            first, _, last = part.partition("\N{EN DASH}")
            for status in range(int(first), int(last or first) + 1):
                assert status not in found, f"{status} stands there twice"
                found[status] = cells[2]
    return found


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own(kind: type[VitrineError]) -> None:
    """A script can tell any two apart; the class itself says the number."""
    assert "exit_status" in vars(kind), "inherited, so not told from its base"
    alike = [other for other in tree() if other.exit_status == kind.exit_status]
    assert alike == [kind]


def test_tree_is_drawn_as_it_is() -> None:
    """The docstring of agent/errors.py has every class with its number, and no other."""
    drawn = {m["name"]: int(m["status"]) for m in DRAWN.finditer(errors.__doc__ or "")}
    assert drawn == {kind.__name__: kind.exit_status for kind in tree()} | {
        name: getattr(errors, name).exit_status for name in ABSTRACT
    }


def test_table_has_every_status_and_no_other() -> None:
    """docs/exit-codes.md is what scripts are written by."""
    raised = {kind.exit_status for kind in tree()} | {VitrineError.exit_status}
    assert documented().keys() == raised | NOT_OF_THE_TREE


def test_statuses_fit_a_shell() -> None:
    """Below 126: from there on a shell means something else by it."""
    assert all(0 < kind.exit_status < 126 for kind in tree())
