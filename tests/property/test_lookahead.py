"""What is read ahead of a source's directories is what is there when it is asked for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backup.journal import Directory, Journal
from agent.backup.lookahead import MOST, Lookahead
from agent.backup.pages import Pages
from agent.backup.readpages import Row
from agent.model.tree import Entry

PATHS = [b"%d" % n for n in range(4)] + [b"%d/%d" % (n, m) for n in range(4) for m in range(4)]
MANY = sorted(
    [b"%d" % n for n in range(9)] + [b"%d/%d" % (n, m) for n in range(9) for m in range(9)]
)
WARM = 7  # questions in order, after which several directories are read at once

paths = st.sampled_from(PATHS)
steps = st.lists(
    st.tuples(st.sampled_from(["take", *["take on"] * 4, "change", "drop", "add"]), paths),
    max_size=30,
)


class Known:
    """A journal with directories of one source, and what reads them ahead."""

    def __init__(self, scratch: Path, present: set[bytes]) -> None:
        """Put a directory with one entry at each path, and at those above it."""
        self.journal = Journal(str(scratch / "journal"), b"identity")
        self.pages = Pages(self.journal)
        self.source = self.journal.source(b"/source")
        self.top = self.journal.add_directory(self.source, b"", self.journal.root())
        for path in sorted(present):
            self.add(path)
        self.lookahead = Lookahead(self.pages, self.source)
        self.taken = b""
        self.writes = 0

    def add(self, path: bytes) -> Directory:
        """Return the directory at a path, which is made where it is not there."""
        known = self.journal.directory(self.source, path)
        if known is not None:
            return known
        above = path.rpartition(b"/")[0]
        made = self.journal.add_directory(self.source, path, self.add(above) if above else self.top)
        self.pages.apply(made.id, [(b"image", Entry(b"image"))])
        return made

    def take(self, path: bytes) -> None:
        """Fail unless what was read ahead is what a look at the journal tells."""
        self.taken = path
        found = self.lookahead.take(path)
        directory = self.journal.directory(self.source, path)
        assert (found is None) == (directory is None)
        if directory is None or found is None:
            return
        assert found[0].id == directory.id
        entries = found[1].entries if found[1] is not None else ()
        assert list(entries) == list(self.pages.entries(directory.id))

    def take_on(self, _: bytes) -> None:
        """Take the next path, as a scan does."""
        later = sorted(path for path in PATHS if path > self.taken)
        self.take(later[0] if later else PATHS[0])

    def change(self, path: bytes) -> None:
        """Change what a directory holds, if it is there."""
        directory = self.journal.directory(self.source, path)
        if directory is not None:
            self.writes += 1
            image = Entry(b"image", size=self.writes)
            self.pages.apply(directory.id, [(b"image", image)])

    def drop(self, path: bytes) -> None:
        """Drop a directory and all below it."""
        self.pages.remove_tree(self.source, path)


@given(st.sets(paths, max_size=4), steps)
def test_what_was_read_ahead_is_never_out_of_date(
    tmp_path_factory: pytest.TempPathFactory, missing: set[bytes], todo: list[tuple[str, bytes]]
) -> None:
    """Whatever is changed, dropped or added between two questions, in whatever order."""
    known = Known(tmp_path_factory.mktemp("journal"), set(PATHS) - missing)
    for path in sorted(PATHS)[:WARM]:
        known.take(path)
    acts = {
        "take": known.take, "take on": known.take_on, "change": known.change, "drop": known.drop,
        "add": known.add,
    }  # fmt: skip
    for act, path in todo:
        acts[act](path)
    known.journal.close()


def test_one_question_to_the_journal_is_for_many_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in order, also where some are new; a directory that was passed may change."""
    known = Known(tmp_path, set(MANY[::2]))
    asked: list[list[Row]] = []
    read = known.pages.directories_from

    def counted(source: int, path: bytes, count: int) -> list[Row]:
        asked.append(read(source, path, count))
        return asked[-1]

    monkeypatch.setattr(known.pages, "directories_from", counted)
    for path in MANY:
        known.take(path)
        known.add(path)
        known.change(path)
    assert len(asked) < len(MANY) / MOST + 6
    known.journal.close()
