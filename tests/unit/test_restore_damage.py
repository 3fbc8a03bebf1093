"""What is damaged, hostile or in the way is left out and counted; the rest comes back."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from agent.errors import RestoreIncomplete, SessionExpired, StoreUnavailable
from agent.model.location import PackKind
from agent.model.tree import Entry, Flaw, Kind, PageRef, TreePage, pack_extents
from agent.repository import layout
from agent.repository.pack import PREAMBLE_BYTES
from agent.repository.packtable import read_header
from agent.store.memory import MemoryStore
from tests.fakes import restores
from tests.fakes.restores import HandMade, reported, restore_to
from tests.fakes.vaults import Vault, make_vault, open_reader


class Bench:
    """A vault, snapshots made by hand, and a place to restore to."""

    def __init__(self, scratch: Path) -> None:
        """Make them below `scratch`."""
        self.store = MemoryStore()
        self.vault: Vault = make_vault(self.store)
        self.make = HandMade(self.store, self.vault, scratch / "made")
        self.scratch = scratch
        self.target = scratch / "out"

    def restore(self, *entries: Entry) -> dict[str, str]:
        """Commit the entries and restore them; return what the report says of failures."""
        root = self.make.commit_entries(*entries).snapshot.root
        return self.restore_root(root)

    def restore_root(self, root: bytes) -> dict[str, str]:
        """Restore what lies at a root page; return what the report says of failures."""
        reader = open_reader(self.store, self.vault.secrets, self.scratch / "read")
        outcome = restore_to(self.target, reader, root)
        found = reported(self.target, outcome)
        assert outcome.failed >= len(found)
        if outcome.report:
            report = self.target / outcome.report
            assert stat.S_IMODE(report.stat().st_mode) == 0o600
            with pytest.raises(RestoreIncomplete, match=str(outcome.failed)) as raised:
                outcome.check()
            assert outcome.report in raised.value.hint
            report.unlink()
        return found

    def names(self) -> list[str]:
        """Return what is in the target."""
        return sorted(str(p.relative_to(self.target)) for p in self.target.rglob("*"))


@pytest.fixture(autouse=True, params=[0, 2], ids=["threads", "processes"])
def _writers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files written by either kind of writers: what holds for one holds for the other."""
    monkeypatch.setattr(restores, "PROCESSES", request.param)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty vault and target."""
    return Bench(tmp_path)


# -- hostile trees ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"../up", b"/abs", b"n\0ul"])
def test_a_name_that_leads_elsewhere_is_refused_as_damage(bench: Bench, name: bytes) -> None:
    """The whole page is refused, what lies beside it comes back, nothing appears outside."""
    bad = bench.make.directory(b"bad", bench.make.file(name, b"evil"))
    good = bench.make.directory(b"good", bench.make.file(b"f", b"fine"))
    before = sorted(os.listdir(bench.scratch))
    failures = bench.restore(bad, good)
    assert list(failures) == ["bad"]
    assert bench.names() == ["bad", "good", "good/f"]
    assert set(os.listdir(bench.scratch)) - set(before) == {"out", "read"}


def test_a_name_twice_over_two_pages_is_restored_once(bench: Bench) -> None:
    """A link first and a directory of that name later would be the oldest trick of all."""
    make = bench.make
    link = Entry(name=b"x", kind=Kind.SYMLINK, target=os.fsencode(bench.scratch))
    through = make.directory(b"x", make.file(b"planted", b"evil"))
    pages = (
        PageRef(b"x", make.page(TreePage(entries=(link,)))),
        PageRef(b"x1", make.page(TreePage(entries=(through,)))),
    )
    tree = make.page(TreePage(pages=pages))
    failures = bench.restore(make.directory(b"d", tree=tree))
    assert "name twice" in failures["d"]
    assert (bench.target / "d" / "x").is_symlink()
    assert not (bench.scratch / "planted").exists()


def test_pages_that_nest_without_end_are_refused(bench: Bench) -> None:
    """Neither the stack nor the patience of a restore is the limit."""
    tree = bench.make.page(TreePage(entries=(bench.make.file(b"f"),)))
    for _ in range(200):
        tree = bench.make.page(TreePage(pages=(PageRef(b"f", tree),)))
    assert "deeper" in bench.restore(bench.make.directory(b"d", tree=tree))["d"]


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 2**62, "content": pack_extents([(bytes(32), 2**62)]), "digest": b""},
        {"mtime_ns": -(2**63)},
        {"xattrs": ((b"user.\0x", b"v"),)},
        {"size": 7},
        {"digest": b"x" * 32},
        {"depth": 9},
        {"content": b"torn"},
        {"flaw": Flaw.UNREADABLE},
    ],
    ids=["huge", "before time", "nul", "size", "digest", "depth", "torn", "unreadable"],
)
def test_a_file_that_cannot_be_whole_is_not_left_behind(
    bench: Bench, fields: dict[str, object]
) -> None:
    """Neither under its name nor under another; files beside it come back."""
    bad = bench.make.file(b"bad", b"12345", **fields)
    failures = bench.restore(bad, bench.make.file(b"good", b"fine"))
    if "mtime_ns" in fields and not failures:  # a file system with wide times takes it
        return
    assert list(failures) == ["bad"]
    assert bench.names() == ["good"]


def test_a_directory_that_was_not_listed_counts_as_failed(bench: Bench) -> None:
    """It is made, but nobody may take it for empty."""
    failures = bench.restore(bench.make.directory(b"d", flaw=Flaw.UNLISTED))
    assert "not listed" in failures["d"]
    assert bench.names() == ["d"]


def test_one_inode_with_two_contents_is_two_files(bench: Bench) -> None:
    """The right bytes matter more than the link: the names may have been read at two moments."""
    shared = {"inode": 9, "links": 2}
    first = bench.make.file(b"first", b"before", **shared)
    second = bench.make.file(b"second", b"after", **shared)
    assert bench.restore(first, second) == {}
    assert (bench.target / "first").read_bytes() == b"before"
    assert (bench.target / "second").read_bytes() == b"after"


def test_a_name_in_the_report_cannot_forge_a_line(bench: Bench) -> None:
    """Control characters are escaped."""
    failures = bench.restore(bench.make.file(b"a\nb\tc\\", b"1", digest=b"x" * 32))
    assert list(failures) == ["a\\x0ab\\x09c\\\\"]


# -- what stands in the way ---------------------------------------------------------------------


def test_a_link_where_a_directory_should_be_is_not_followed(bench: Bench) -> None:
    """CVE-2026-62268 elsewhere: the subtree fails, and nothing appears where the link leads."""
    (bench.scratch / "victim").mkdir()
    bench.target.mkdir()
    (bench.target / "d").symlink_to("../victim")
    inner = bench.make.directory(b"e", bench.make.file(b"g", b"y"))
    failures = bench.restore(
        bench.make.directory(b"d", inner, bench.make.file(b"f", b"x")), bench.make.file(b"z")
    )
    assert sorted(failures) == ["d", "d/e", "d/e/g", "d/f"]
    assert os.listdir(bench.scratch / "victim") == []
    assert (bench.target / "z").exists()


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK, Kind.FIFO])
def test_what_exists_is_never_replaced(bench: Bench, kind: Kind) -> None:
    """Not even by a link, and not through one."""
    (bench.scratch / "victim").write_bytes(b"precious")
    bench.target.mkdir()
    (bench.target / "there").write_bytes(b"mine")
    (bench.target / "through").symlink_to("../victim")
    entries = [
        bench.make.file(name, b"theirs")
        if kind is Kind.FILE
        else Entry(name=name, kind=kind, target=b"t" if kind is Kind.SYMLINK else b"")
        for name in (b"there", b"through")
    ]
    assert sorted(bench.restore(*entries)) == ["there", "through"]
    assert (bench.target / "there").read_bytes() == b"mine"
    assert (bench.scratch / "victim").read_bytes() == b"precious"
    assert bench.names() == ["there", "through"]


@pytest.mark.root
def test_a_directory_that_somebody_planted_is_not_entered(bench: Bench) -> None:
    """Who keeps it open would read what is restored into it."""
    bench.target.mkdir()
    (bench.target / "d").mkdir()
    os.chown(bench.target / "d", 4242, 4242)
    assert sorted(bench.restore(bench.make.directory(b"d", bench.make.file(b"f", b"x")))) == [
        "d",
        "d/f",
    ]
    assert os.listdir(bench.target / "d") == []


def test_a_directory_that_was_there_is_filled_and_otherwise_left_alone(bench: Bench) -> None:
    """A second restore may add what the first did not want; modes and times stay."""
    (bench.target / "d").mkdir(parents=True, mode=0o751)
    entry = bench.make.directory(b"d", bench.make.file(b"f", b"x"), mode=0o700, mtime_ns=1)
    assert bench.restore(entry) == {}
    assert stat.S_IMODE((bench.target / "d").stat().st_mode) == 0o751
    assert (bench.target / "d" / "f").read_bytes() == b"x"


# -- damaged objects, ends from outside ---------------------------------------------------------


def _pack_of(bench: Bench, kind: PackKind) -> str:
    for listed in bench.store.list(layout.PACKS):
        pack = layout.pack_id(listed.name)
        if pack is not None and read_header(bench.store, pack)[0].kind is kind:
            return listed.name
    raise AssertionError("no such pack")


def test_files_of_a_damaged_pack_are_named_and_the_rest_comes_back(bench: Bench) -> None:
    """Two packs, one of them damaged; the report says which object it was."""
    first = bench.make.directory(b"a", bench.make.file(b"lost", b"of the first pack"))
    bench.make.commit_entries(first)
    name = _pack_of(bench, PackKind.DATA)
    data = bytearray(bench.store.get(name))
    data[PREAMBLE_BYTES + 5] ^= 1
    bench.store.delete(name)
    bench.store.put(name, [bytes(data)])
    failures = bench.restore(first, bench.make.directory(b"b", bench.make.file(b"kept", b"fine")))
    assert list(failures) == ["a/lost"]
    assert name in failures["a/lost"]
    assert bench.names() == ["a", "b", "b/kept"]


@pytest.mark.parametrize("places", [(b"forged!!", b"the real"), (b"the real", b"forged!!")])
def test_a_file_comes_back_from_the_place_that_has_it(
    bench: Bench, places: tuple[bytes, bytes]
) -> None:
    """Its digest does not fit what lies at one place: the other is tried, and counted once."""
    for stored in places:
        bench.make.store_as(b"the real", stored)
    root = bench.make.commit_entries(bench.make.file(b"f", b"the real")).snapshot.root
    reader = open_reader(bench.store, bench.vault.secrets, bench.scratch / "read")
    told: list[int] = []
    outcome = restore_to(bench.target, reader, root, on_progress=lambda done, *_: told.append(done))
    assert reported(bench.target, outcome) == {}
    assert (bench.target / "f").read_bytes() == b"the real"
    assert max(told) == len(b"the real")


def test_other_bytes_under_a_name_are_never_restored(bench: Bench) -> None:
    """Neither where the file's digest tells, nor where it has none and the chunk's id does."""
    bench.make.store_as(b"the real", b"forged!!")
    failures = bench.restore(
        bench.make.file(b"with", b"the real"), bench.make.file(b"without", b"the real", digest=b"")
    )
    assert sorted(failures) == ["with", "without"]
    assert all("not what was named so" in reason for reason in failures.values())
    assert bench.names() == []


def test_a_lost_tree_page_costs_its_directory_alone(bench: Bench) -> None:
    """Directories whose pages are in other packs come back."""
    lost = bench.make.directory(b"a", bench.make.file(b"f", b"x"))
    bench.make.commit_entries(lost)
    bench.store.delete(_pack_of(bench, PackKind.TREE))
    # its page was stored before, so the next snapshot refers to the pack that is gone
    kept = bench.make.directory(b"b", bench.make.file(b"g", b"y"))
    assert list(bench.restore(lost, kept)) == ["a"]
    assert bench.names() == ["a", "b", "b/g"]


def test_an_ended_session_stops_a_restore_and_leaves_nothing_half_written(bench: Bench) -> None:
    """Between two stretches of bytes: no temporary name and no anchor stays."""
    files = [bench.make.file(b"f%03d" % n, b"x" * 100, inode=n, links=2) for n in range(50)]
    root = bench.make.commit_entries(*files).snapshot.root
    reader = open_reader(bench.store, bench.vault.secrets, bench.scratch / "read")
    asked = iter(range(1000))
    with pytest.raises(SessionExpired):
        restore_to(bench.target, reader, root, stopped=lambda: next(asked) > 40)
    assert not [name for name in bench.names() if name.startswith(".vitrine")]
    assert all((bench.target / name).read_bytes() == b"x" * 100 for name in bench.names())


def test_a_store_that_is_gone_ends_the_restore(bench: Bench) -> None:
    """It is no fault of one file: nobody wants a report of a million."""

    class Gone(MemoryStore):
        def get_range(self, name: str, offset: int, length: int) -> bytes:
            if name.startswith(layout.PACKS) and self.is_gone:
                raise StoreUnavailable("the storage does not answer")
            return super().get_range(name, offset, length)

        is_gone = False

    bench.store = store = Gone()
    bench.vault = make_vault(store)
    bench.make = HandMade(store, bench.vault, bench.scratch / "made again")
    files = [bench.make.file(b"f%d" % n, b"x" * (n + 1)) for n in range(9)]
    root = bench.make.commit_entries(*files).snapshot.root
    reader = open_reader(store, bench.vault.secrets, bench.scratch / "read")
    reader.page(root)
    store.is_gone = True
    with pytest.raises(StoreUnavailable):
        restore_to(bench.target, reader, root)
    assert bench.names() == []


@pytest.mark.root
def test_a_full_target_ends_the_restore(bench: Bench) -> None:
    """Said once, with what to do; what did not fit is not there in part."""
    bench.target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", bench.target], check=True)
    try:
        files = [bench.make.file(b"f%d" % n, os.urandom(400_000)) for n in range(6)]
        root = bench.make.commit_entries(*files).snapshot.root
        reader = open_reader(bench.store, bench.vault.secrets, bench.scratch / "read")
        with pytest.raises(RestoreIncomplete, match="takes no more"):
            restore_to(bench.target, reader, root)
        assert {path.stat().st_size for path in bench.target.iterdir()} <= {400_000}
    finally:
        subprocess.run(["umount", bench.target], check=True)
