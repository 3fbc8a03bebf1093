"""Runs of a vault's backup against real directories: what is stored, and what is not."""

import contextlib
import errno
import os
import socket
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.backup.journal import Journal
from agent.backup.patterns import Patterns
from agent.errors import SourceUnavailable, StoreFull
from agent.model.snapshot import Trigger
from agent.model.tree import Entry, Flaw, Kind, unpack_extents
from agent.store.base import Part, Store
from agent.store.local import LocalStore
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.vaults import content, make_vault, snapshots, stored_ids, walk

MiB = 1024 * 1024


@pytest.fixture
def made(tmp_path: Path) -> BackupFixture:
    """Return a backup of an empty source into memory."""
    return BackupFixture(MemoryStore(), tmp_path)


def write(directory: bytes, name: bytes | str, data: bytes = b"content") -> bytes:
    """Write a file below `directory`; return its path."""
    path = os.path.join(directory, os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).write_bytes(data)
    return path


def packs(store: Store) -> int:
    """Return how many packs there are."""
    return sum(1 for _ in store.list("packs/"))


def stored_entry(made: BackupFixture, path: bytes) -> Entry:
    """Return the entry at `path` below the first source in the newest snapshot."""
    reader = made.reader()
    return dict(walk(reader, made.tops()[made.sources[0].label].tree))[path]


# -- what comes back ---------------------------------------------------------------------------


def test_every_kind_of_file_and_name_comes_back_as_it_is(made: BackupFixture) -> None:
    """Awkward names, links, special files, xattrs, hard links, empty and deep directories."""
    source = made.source
    for name in (b"\xff\xfe bytes", b"new\nline", b"n" * 255, b"\xff" * 255, b" ", b"-rf", b"\\"):
        write(source, name, name)
        write(source, name + b"" if len(name) < 200 else b"d", b"x")
    os.mkdir(source + b"/" + b"\xff" * 20)
    write(source + b"/" + b"\xff" * 20, b"in", b"in")
    os.mkdir(source + b"/empty")
    write(source, "/".join(["deep"] * 60) + "/file", b"deep")
    os.symlink(b"/nowhere/\xff", source + b"/dangling")
    os.symlink(b"empty", source + b"/to-directory")
    os.link(write(source, "one", b"shared"), source + b"/two")
    os.mkfifo(source + b"/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(source + b"/socket")
    os.setxattr(write(source, "tagged"), "user.study", b"\x00\xff value")
    os.chmod(write(source, "suid"), 0o6751)  # noqa: S103 - kept as it is, whatever it is
    os.utime(write(source, "old"), ns=(1, -1_500_000_001))
    made.run()
    assert made.differences() == []


@pytest.mark.root
def test_devices_and_owners_come_back(made: BackupFixture) -> None:
    """Device numbers, foreign owners and the sticky bit are kept."""
    os.mknod(made.source + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(made.source + b"/disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    os.chown(write(made.source, "theirs"), 12345, 54321)
    os.chmod(made.source, 0o1777)  # noqa: S103 - as /tmp
    made.run()
    assert made.differences() == []
    assert made.tops()[b"source"].mode == 0o1777


@pytest.mark.root
def test_acls_come_back(made: BackupFixture) -> None:
    """POSIX ACLs are kept as the kernel's own bytes, on files and as a directory's default."""
    acl = bytes.fromhex(
        "02000000 01000600ffffffff 02000400e8030000 04000400ffffffff"
        " 10000400ffffffff 20000000ffffffff"
    )
    path = write(made.source, "shared/file")
    os.setxattr(path, "system.posix_acl_access", acl)
    os.setxattr(os.path.dirname(path), "system.posix_acl_default", acl)
    made.run()
    assert made.differences() == []
    assert dict(stored_entry(made, b"shared").xattrs)[b"system.posix_acl_default"] == acl


def test_large_files_are_cut_and_come_back(made: BackupFixture) -> None:
    """Around every size where the way of reading changes, the bytes are the same."""
    noise = os.urandom(20 * MiB)
    for size in (0, 1, 256 * 1024, 256 * 1024 + 1, 4 * MiB, 16 * MiB, 16 * MiB + 1, 20 * MiB):
        write(made.source, f"f{size}", noise[:size])
    made.run()
    assert made.differences() == []


def test_images_of_a_directory_lie_in_the_order_of_their_names(made: BackupFixture) -> None:
    """Who reads them in order, as a viewer reads slices, finds each behind the one before."""
    names = [b"%02d" % number for number in range(20)]
    for name in reversed(names):
        write(made.source, name, name + os.urandom(200_000))
    made.run()
    reader = made.reader()
    entries = reader.entries(made.tops()[b"source"].tree)
    firsts = [next(reader.extents(entry))[1].id for entry in entries]
    at = [reader.locate(id_) for id_ in firsts]
    places = [(one.frame.number, one.offset) for one in at]
    assert len({one.frame.pack for one in at}) == 1
    assert places == sorted(places)


def test_a_file_of_many_chunks_moves_its_extents_to_content_pages(made: BackupFixture) -> None:
    """More extents than an entry holds go into pages of their own, and come back in order."""
    write(made.source, "long", os.urandom(90 * MiB))
    made.run()
    assert stored_entry(made, b"long").depth == 1
    assert made.differences() == []


def test_a_hole_is_kept_as_a_hole(made: BackupFixture) -> None:
    """Holes are not read or stored; the digest covers their zeros."""
    path = write(made.source, "sparse", b"")
    with open(path, "r+b") as file:
        file.truncate(64 * MiB)
        file.seek(8 * MiB)
        file.write(os.urandom(300_000))
        file.seek(40 * MiB)
        file.write(b"end of data")
    made.run()
    entry = stored_entry(made, b"sparse")
    holes = [extent.length for extent in unpack_extents(entry.content) if extent.is_hole]
    assert len(holes) == 3
    assert sum(holes) > 60 * MiB
    assert made.differences() == []
    whole = made.backup  # the same bytes without holes have the same digest
    write(made.source, "dense", Path(os.fsdecode(path)).read_bytes())
    assert whole is made.backup
    made.run()
    assert stored_entry(made, b"dense").digest == entry.digest


def test_two_sources_stand_side_by_side(tmp_path: Path) -> None:
    """The root page has one entry a source, with label, origin and totals."""
    made = BackupFixture(MemoryStore(), tmp_path, names=("images", "records"))
    write(made.sources[0].path, "a", b"12345")
    write(made.sources[1].path, "sub/b", b"123")
    made.run()
    tops = made.tops()
    assert {name: (top.files, top.bytes, top.origin) for name, top in tops.items()} == {
        source.label: (1, size, source.path)
        for source, size in zip(made.sources, (5, 3), strict=True)
    }
    assert (made.last().snapshot.files, made.last().snapshot.bytes) == (2, 8)


# -- what is not stored again -------------------------------------------------------------------


def test_an_unchanged_source_adds_nothing_and_takes_no_snapshot(made: BackupFixture) -> None:
    """The second run reads no file, puts no object and commits nothing."""
    write(made.source, "a/b", b"x" * 1000)
    made.run()
    before = sorted(made.store.list(""))
    for _ in range(2):
        outcome = made.run()
        assert (outcome.taken, outcome.counts.files, outcome.added_bytes) == (None, 0, 0)
        made.restart()
    assert sorted(made.store.list("")) == before


def test_a_forced_snapshot_is_taken_though_nothing_changed(made: BackupFixture) -> None:
    """Somebody who asks for one gets one, with the same root."""
    write(made.source, "a")
    first = made.run().taken
    second = made.run(force=True).taken
    assert first is not None
    assert second is not None
    assert second.snapshot.root == first.snapshot.root
    assert second.snapshot.previous == first.id


def test_a_lost_journal_costs_reading_again_and_stores_nothing_twice(made: BackupFixture) -> None:
    """Without its journal the agent reads all, adds no object, and takes no snapshot."""
    for number in range(30):
        write(made.source, f"d{number % 3}/f{number}", os.urandom(5000))
    made.run()
    before = sorted(made.store.list(""))
    made.backup.close()
    made.backup = made.another("elsewhere")
    outcome = made.run()
    assert outcome.counts.files == 30
    assert outcome.taken is None
    assert sorted(made.store.list("")) == before


@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_damaged_journal_is_moved_aside_and_made_anew(
    made: BackupFixture, expect_log: Callable[..., None], where: str
) -> None:
    """Damage is noticed, said, and costs reading again; the tree is the same."""
    for number in range(400):
        write(made.source, f"f{number:04}", os.urandom(100))
    made.run()
    made.backup.close()
    path = made.scratch / "state" / "journal.sqlite"
    data = bytearray(path.read_bytes())
    if where == "header":
        data[:16] = bytes(16)
    else:
        at = data.index(b"f0100")  # inside a page's body
        data[at + 40] ^= 1
    path.write_bytes(data)
    expect_log("damaged")
    made.backup = made.another()
    before = packs(made.store)
    assert made.run().taken is None
    assert packs(made.store) == before
    assert path.with_name("journal.sqlite.aside").exists()
    assert made.differences() == []


def test_a_repository_put_back_to_an_earlier_state_is_filled_again(
    made: BackupFixture, expect_log: Callable[..., None]
) -> None:
    """The journal is not believed about chunks that the repository no longer has."""
    write(made.source, "first", os.urandom(1000))
    made.run()
    copy = {listed.name: made.store.get(listed.name) for listed in made.store.list("")}
    write(made.source, "second", os.urandom(1000))
    made.run()
    for listed in list(made.store.list("")):
        if listed.name not in copy:
            made.store.delete(listed.name)
    made.restart()
    expect_log("later state of the repository")
    made.run()
    assert made.differences() == []


# -- what changes -------------------------------------------------------------------------------


def test_a_second_snapshot_follows_the_first_and_both_can_be_read(made: BackupFixture) -> None:
    """Change, deletion and addition make a new state; the old one stays as it was."""
    write(made.source, "changed", b"before")
    write(made.source, "gone/file", b"gone")
    first = made.run().taken
    assert first is not None
    write(made.source, "changed", b"after!")
    os.unlink(made.source + b"/gone/file")
    os.rmdir(made.source + b"/gone")
    write(made.source, "new/file")
    made.run()
    assert made.differences() == []
    reader = made.reader()
    old = dict(walk(reader, first.snapshot.root))
    assert content(reader, old[b"source/changed"]) == b"before"
    assert content(reader, old[b"source/gone/file"]) == b"gone"
    assert [info.snapshot.sequence for info in snapshots(made.store, made.vault.secrets)] == [1, 2]
    assert [info.snapshot.sequence for info in made.recorded] == [1, 2]


def test_a_name_that_changes_its_kind_is_followed(made: BackupFixture) -> None:
    """A file becomes a directory, a directory a link, a link a file."""
    write(made.source, "a")
    write(made.source, "b/c/d")
    os.symlink(b"a", made.source + b"/l")
    made.run()
    os.unlink(made.source + b"/a")
    write(made.source, "a/inside", b"1")
    os.unlink(made.source + b"/b/c/d")
    os.rmdir(made.source + b"/b/c")
    os.rmdir(made.source + b"/b")
    os.symlink(b"a", made.source + b"/b")
    os.unlink(made.source + b"/l")
    write(made.source, "l", b"file")
    made.run()
    assert made.differences() == []


def test_metadata_alone_makes_a_new_snapshot(made: BackupFixture) -> None:
    """A changed mode, owner's tag or time is a change, though no chunk is new."""
    path = write(made.source, "a", b"x" * 2000)
    made.run()
    changes: list[Callable[[], None]] = [
        lambda: os.chmod(path, 0o600),
        lambda: os.setxattr(path, "user.a", b"b"),
        lambda: os.utime(made.source, ns=(5, 5)),
    ]
    for change in changes:
        change()
        assert made.run().taken is not None
        assert made.differences() == []
    assert made.tops()[b"source"].mtime_ns == 5


def test_dirty_names_are_all_that_is_looked_at(made: BackupFixture) -> None:
    """A run after events compares the names they gave, new directories whole, and no more."""
    for number in range(50):
        write(made.source, f"quiet/f{number}")
    write(made.source, "busy/old", b"old")
    made.run()
    write(made.source, "busy/old", b"new")
    write(made.source, "fresh/deep/er", b"1")
    write(made.source, "quiet/unnoticed")
    outcome = made.run_dirty({b"busy": frozenset({b"old"}), b"": frozenset({b"fresh"})})
    assert outcome.counts.looked_at < 12
    assert made.last().snapshot.trigger is Trigger.CHANGE
    assert [line for line in made.differences() if b"unnoticed" not in line.encode()] == [
        "b'quiet': mtime"
    ]
    made.run()  # the full scan repairs what events missed
    assert made.differences() == []


def test_dirty_names_that_lead_nowhere_are_repaired_from_above(made: BackupFixture) -> None:
    """Events about directories that came or went meanwhile are settled by their parents."""
    write(made.source, "a/b/c/d")
    made.run()
    os.rename(made.source + b"/a/b", made.source + b"/moved")
    made.run_dirty({b"a/b/c": frozenset({b"d"}), b"moved/c": None})
    assert made.differences() == []


def test_a_directory_replaced_by_another_of_its_name_is_walked(made: BackupFixture) -> None:
    """Two directories swap names: their files follow, though no event named them."""
    for number in range(5):
        write(made.source, f"a/f{number}", b"a")
        write(made.source, f"b/f{number}", b"b")
    made.run()
    os.rename(made.source + b"/a", made.source + b"/t")
    os.rename(made.source + b"/b", made.source + b"/a")
    os.rename(made.source + b"/t", made.source + b"/b")
    made.run_dirty({b"": frozenset({b"a", b"b"})})
    assert made.differences() == []


# -- sources that are not there -----------------------------------------------------------------


def test_a_missing_source_keeps_its_last_state_and_is_said_to_be_missing(tmp_path: Path) -> None:
    """One source goes: the snapshot carries its last state on, and is marked incomplete."""
    made = BackupFixture(MemoryStore(), tmp_path, names=("stays", "goes"))
    write(made.sources[0].path, "a")
    write(made.sources[1].path, "b")
    made.run()
    os.rename(made.sources[1].path, made.scratch / "away")
    write(made.sources[0].path, "c")
    outcome = made.run()
    assert outcome.sources[made.sources[1].path].missing
    assert [state.missing for state in made.last().snapshot.incomplete] == [True]
    assert made.tops()[b"goes"].files == 1
    os.rename(made.scratch / "away", made.sources[1].path)
    write(made.sources[1].path, "later")
    made.run_dirty({})  # it is scanned whole once it is back, whatever events say
    assert made.last().snapshot.incomplete == ()
    assert made.tops()[b"goes"].files == 2


def test_a_source_that_became_a_link_is_not_followed(made: BackupFixture) -> None:
    """Whoever can replace a source cannot make the agent read something else."""
    os.rename(made.source, made.scratch / "real")
    os.symlink("real", made.source)
    with pytest.raises(SourceUnavailable):
        made.run()
    assert not list(made.store.list("snapshots/"))


def test_a_bare_mount_point_is_not_taken_for_an_empty_source(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty and on another device: the file system is not mounted, and its last state stands."""
    write(made.source, "a")
    made.run()
    os.unlink(made.source + b"/a")
    monkeypatch.setattr(Journal, "device", lambda *_: 12345)
    outcome = made.run(force=True)
    assert outcome.sources[made.source].missing
    assert made.tops()[b"source"].files == 1


def test_a_source_no_longer_configured_leaves_the_next_snapshot(tmp_path: Path) -> None:
    """Its last state stays in older snapshots."""
    made = BackupFixture(MemoryStore(), tmp_path, names=("kept", "dropped"))
    write(made.sources[1].path, "a")
    made.run()
    del made.sources[1]
    made.restart()
    made.run()
    assert list(made.tops()) == [b"kept"]


# -- files that cannot be read as they should ---------------------------------------------------


def test_a_link_put_in_place_of_a_directory_leads_nowhere(made: BackupFixture) -> None:
    """A directory that turned into a link between event and scan is stored as the link."""
    write(made.scratch.as_posix().encode(), "outside/secret", b"secret")
    write(made.source, "a/b")
    made.run()
    os.unlink(made.source + b"/a/b")
    os.rmdir(made.source + b"/a")
    os.symlink(b"../outside", made.source + b"/a")
    made.run_dirty({b"a": frozenset({b"secret"})})
    assert made.differences() == []


def test_patterns_leave_out_what_they_match(tmp_path: Path) -> None:
    """Excluded directories with all in them; where there are includes, only files that match."""
    patterns = Patterns(include=["*.dcm"], exclude=["/cache/", "draft*"])
    made = BackupFixture(MemoryStore(), tmp_path, patterns=patterns)
    for name in ("a.dcm", "a.txt", "cache/b.dcm", "sub/cache/c.dcm", "sub/draft.dcm"):
        write(made.source, name)
    made.run()
    kept = [path for path, _ in walk(made.reader(), made.tops()[b"source"].tree)]
    assert kept == [b"a.dcm", b"sub", b"sub/cache", b"sub/cache/c.dcm"]
    made.run_dirty({b"cache": frozenset({b"b.dcm"}), b"sub": frozenset({b"draft.dcm"})})
    assert kept == [path for path, _ in walk(made.reader(), made.tops()[b"source"].tree)]


def test_an_unreadable_file_is_marked_counted_and_tried_again(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata are kept; once it can be read, a full scan reads it."""
    write(made.source, "bad", b"old content")
    made.run()
    write(made.source, "bad", b"new content")

    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "medium error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", failing)
        patched.setattr(os, "read", failing)  # of a small file that has been at rest by now
        made.run()
    entry = stored_entry(made, b"bad")
    assert (entry.flaw, entry.content, entry.kind) == (Flaw.UNREADABLE, b"", Kind.FILE)
    assert [state.unreadable for state in made.last().snapshot.incomplete] == [1]
    made.run()
    assert made.last().snapshot.incomplete == ()
    assert made.differences() == []


# -- what breaks --------------------------------------------------------------------------------


class FullStore(MemoryStore):
    """A store whose space runs out at the n-th put."""

    def __init__(self) -> None:
        """Have room for everything, until `left` says otherwise."""
        super().__init__()
        self.left = -1

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store, or raise StoreFull."""
        if self.left == 0:
            raise StoreFull(f"no space left for {name}")
        self.left -= 1
        super().put(name, parts)


@pytest.mark.parametrize("room", range(6))
def test_a_full_repository_ends_the_run_cleanly_and_nothing_is_stored_twice(
    tmp_path: Path, room: int
) -> None:
    """Wherever space runs out: the old snapshot stands, and with space again all is there once."""
    store = FullStore()
    made = BackupFixture(store, tmp_path, vault=make_vault(store))
    write(made.source, "a", b"first")
    made.run()
    for number in range(40):
        write(made.source, f"new/f{number}", os.urandom(3000))
    write(made.source, "big", os.urandom(3 * MiB))
    store.left = room
    try:
        made.run()
        assert room >= 4
    except StoreFull:
        assert made.last().snapshot.sequence == 1
    store.left = -1
    made.run()
    assert made.differences() == []
    chunks = stored_ids(store, made.vault.secrets)
    assert len(chunks) == len(set(chunks))


def test_a_failed_run_gives_back_the_room_that_its_open_packs_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its error is still being told: the next try may need the room."""
    store = LocalStore.create(tmp_path / "repository")
    made = BackupFixture(store, tmp_path, vault=make_vault(store))
    for number in range(10):
        write(made.source, f"f{number}", os.urandom(MiB))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", fail)
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreFull):
            made.run()
    assert not list((tmp_path / "repository").glob(".tmp-*"))
    made.run()
    assert made.differences() == []
    made.backup.close()
    store.close()


def test_a_journal_with_text_that_is_none_is_moved_aside(
    made: BackupFixture, expect_log: Callable[..., None]
) -> None:
    """A flipped bit may hit text, which Python then cannot decode; found by fuzzing."""
    made.run()
    made.backup.close()
    path = made.scratch / "state" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE meta SET value = CAST(x'b4' AS TEXT) WHERE key = 'version'")
        database.commit()
    expect_log("is damaged")
    made.restart()
    made.run()
    assert path.with_name("journal.sqlite.aside").exists()
    assert not made.differences()
