"""A directory's pages are those of the whole directory, whatever the order of its changes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backup import leaf as leaf_module
from agent.backup.journal import ROOT, Journal
from agent.backup.leaf import Change
from agent.backup.pages import Pages
from agent.model.tree import Entry, TreePage, encode_page
from agent.repository import trees as trees_module
from agent.repository.trees import cut_entries

SMALL_PAGES = {"PAGE_MAX_ENTRIES": 7, "PAGE_MAX_BYTES": 90}

names = st.integers(0, 120).map(lambda n: b"%03d" % n)
entries = st.one_of(st.none(), st.integers(0, 40).map(lambda size: (size, bytes(size))))
rounds = st.lists(st.dictionaries(names, entries, max_size=30), max_size=8)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after a few entries, so that small directories have many pages."""
    monkeypatch.setattr(trees_module, "_CUT_MASK", 7)
    for name, value in SMALL_PAGES.items():
        monkeypatch.setattr(trees_module, name, value)
        monkeypatch.setattr(leaf_module, name, value)


def stored_pages(journal: Journal) -> list[bytes]:
    """Return the bodies of the root's pages in order."""
    rows = journal.rows("SELECT body FROM pages WHERE dir = ? ORDER BY first", ROOT)
    return [body for (body,) in rows]


@given(rounds)
def test_pages_do_not_depend_on_the_order_of_changes(
    tmp_path_factory: pytest.TempPathFactory,
    changes_by_round: list[dict[bytes, tuple[int, bytes] | None]],
) -> None:
    """After any rounds of changes the pages equal those cut from the whole directory."""
    path: Path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(str(path), b"identity")
    pages = Pages(journal)
    expected: dict[bytes, Entry] = {}
    for changes in changes_by_round:
        listed: list[Change] = []
        for name, value in sorted(changes.items()):
            entry = None if value is None else Entry(name, size=value[0], target=value[1])
            listed.append((name, entry))
            expected.pop(name, None)
            if entry is not None:
                expected[name] = entry
        pages.apply(ROOT, listed)
        whole = [expected[name] for name in sorted(expected)]
        cut = [encode_page(TreePage(entries=tuple(page))) for page in cut_entries(whole)]
        assert stored_pages(journal) == cut
        assert list(pages.entries(ROOT)) == whole
        assert pages.find(ROOT, sorted(changes)) == {
            name: expected[name] for name in changes if name in expected
        }
    journal.close()


@given(st.sets(names, min_size=1), st.sets(names), st.integers(1, 60))
def test_reading_on_while_pages_change_behind_skips_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, before: set[bytes], added: set[bytes], at: int
) -> None:
    """What is applied to names already passed does not disturb a reader further on."""
    path: Path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(str(path), b"identity")
    pages = Pages(journal)
    pages.apply(ROOT, [(name, Entry(name)) for name in sorted(before)])
    seen = []
    for entry in pages.entries(ROOT):
        seen.append(entry.name)
        if len(seen) == at:
            passed = sorted(name for name in added if name <= entry.name)
            gone = [(name, None) for name in seen[:-1:2]]
            pages.apply(ROOT, gone)
            pages.apply(ROOT, [(name, Entry(name, size=1)) for name in passed])
    assert seen == sorted(before)
    journal.close()
