"""What only a directory can suffer: links, crashes, full and read-only disks, lost power."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import ObjectMissing, StoreError, StoreFull, StoreUnavailable
from agent.store.base import Listed
from agent.store.local import LocalStore

NAME = "packs/ab/abcdef"
FILLING = 300 * 1024  # bytes of an object that fills a small disk soon


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return where the repository lies."""
    return tmp_path / "repository"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    """Return an empty store there."""
    made = LocalStore.create(root)
    yield made
    made.close()


def left_over(root: Path) -> list[str]:
    """Return the temporary files in the repository."""
    return [path.name for path in root.rglob(".*")]


def fill(store: LocalStore) -> int:
    """Put objects until there is no room; return how many there was room for."""
    for number in range(100):
        try:
            store.put(f"packs/{number}", [bytes(FILLING)])
        except StoreFull:
            return number
    pytest.fail("the disk did not fill")


@contextmanager
def tmpfs(at: Path, options: str) -> Iterator[None]:
    """Mount a small file system at `at` for a while."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "vitrine-test", at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


# -- where it lies --------------------------------------------------------------------------------


def test_what_is_no_directory_cannot_be_opened(tmp_path: Path) -> None:
    """A missing mount is told from an empty repository, and nothing is made in its place."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(StoreUnavailable, match=str(path)):
            LocalStore(path)
    assert not (tmp_path / "none").exists()


def test_closing_twice_is_closing(store: LocalStore) -> None:
    """And a closed store says so, rather than use another's descriptor."""
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.put(NAME, [b"x"])


def test_the_root_may_be_a_link(store: LocalStore, root: Path) -> None:
    """Where the repository lies is the administrator's word."""
    link = root.parent / "link"
    link.symlink_to(root)
    store.put(NAME, [b"x"])
    other = LocalStore(link)
    assert other.get(NAME) == b"x"
    other.close()


@pytest.mark.root
def test_what_root_makes_belongs_to_the_owner_of_the_repository(tmp_path: Path) -> None:
    """After a repair by root, the agent's user can go on writing where new directories are."""
    os.chown(tmp_path, 4711, 4712)
    LocalStore(tmp_path).put("packs/ab/pack", [b"content"])
    made = [tmp_path / "packs", tmp_path / "packs/ab", tmp_path / "packs/ab/pack"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4711, 4712)}


def test_modes_are_for_owner_and_group_less_the_umask(store: LocalStore, root: Path) -> None:
    """Readers are a group, or nobody; never everybody."""
    before = os.umask(0)
    try:
        store.put("a/open", [b"x"])
        os.umask(0o077)
        store.put("b/closed", [b"x"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {"a": 0o750, "open": 0o640, "b": 0o700, "closed": 0o600}


@pytest.mark.root
def test_a_set_group_id_root_gives_everything_its_group(store: LocalStore, root: Path) -> None:
    """So that workers, in that group, can read what the agent writes."""
    os.chown(root, -1, 4711)
    root.chmod(0o2750)
    store.put(NAME, [b"x"])
    below = list(root.rglob("*"))
    assert len(below) == 3
    assert {path.stat().st_gid for path in below} == {4711}


# -- links and strangers --------------------------------------------------------------------------


def test_a_linked_directory_is_not_followed(store: LocalStore, root: Path) -> None:
    """Neither read, written, listed nor deleted through."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "abcdef").write_bytes(b"secret")
    store.put("packs/cd/cdcdcd", [b"x"])
    (root / "packs" / "ab").symlink_to(outside)
    operations: list[Callable[[], object]] = [
        lambda: store.get(NAME),
        lambda: store.size(NAME),
        lambda: store.put(NAME, [b"secret"]),
        lambda: store.put("packs/ab/new", [b"y"]),
        lambda: store.delete(NAME),
        lambda: list(store.list("packs/ab/")),
    ]
    for operation in operations:
        with pytest.raises(StoreUnavailable):
            operation()
    assert list(store.list("")) == [Listed("packs/cd/cdcdcd", 1)]
    assert [path.name for path in outside.iterdir()] == ["abcdef"]


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("cdcdcd"), os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_no_object(
    store: LocalStore, root: Path, make: Callable[[Path], None]
) -> None:
    """A link, a FIFO (without waiting for its writer) or a directory in an object's place."""
    store.put("packs/ab/cdcdcd", [b"x"])
    make(root / NAME)
    for operation in (store.get, store.size, lambda name: store.put(name, [b"x"])):
        with pytest.raises(StoreUnavailable, match=NAME):
            operation(NAME)
    assert list(store.list("")) == [Listed("packs/ab/cdcdcd", 1)]


def test_what_bears_no_objects_name_is_not_listed(store: LocalStore, root: Path) -> None:
    """Snapshots of the file system, lost+found and notes may lie there, too."""
    store.put(NAME, [b"x"])
    (root / "packs" / ".snapshot").mkdir()
    (root / "packs" / ".snapshot" / "old").touch()
    (root / "lost+found").mkdir()
    (root / "lost+found" / "a").touch()
    (root / "README").touch()
    with open(os.fsencode(root) + b"/\xff", "wb"):
        pass
    assert list(store.list("")) == [Listed(NAME, 1)]


def test_listings_do_not_share_a_position(store: LocalStore, root: Path) -> None:
    """Two that interleave each see a root of more names than one getdents(2) gives."""
    names = {f"{number:04x}" for number in range(3000)}
    for name in names:
        (root / name).touch()
    first, second = store.list(""), store.list("")
    seen = {next(first).name}
    assert {listed.name for listed in second} == names
    assert seen | {listed.name for listed in first} == names


def test_a_directory_that_cannot_be_listed_is_an_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever prunes must not take half of a listing for all of it."""
    store.put(NAME, [b"x"])
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "ab":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreUnavailable):
        list(store.list(""))


# -- power cuts -----------------------------------------------------------------------------------


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that fills with the calls that matter, in order."""
    record: list[str] = []

    def place(file: int) -> str:
        path = os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)")
        return os.path.relpath(path, root).split("tmp-")[0]

    def watch(name: str, describe: Callable[..., str]) -> None:
        real = getattr(os, name)

        def watched(*args: object, **kwargs: object) -> object:
            record.append(f"{name} {describe(*args, **kwargs)}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, watched)

    watch("writev", lambda file, parts: place(file))
    watch("fsync", place)
    watch(
        "mkdir", lambda name, mode, *, dir_fd=None: f"{name} in {place(dir_fd)}" if dir_fd else ""
    )
    watch("link", lambda source, to, dst_dir_fd, **_: f"{to} in {place(dst_dir_fd)}")
    watch("unlink", lambda name, dir_fd: f"{name.split('tmp-')[0]} in {place(dir_fd)}")
    return record


def test_each_step_is_durable_before_the_next_relies_on_it(
    store: LocalStore, calls: list[str]
) -> None:
    """Directories top down, content before its name, its name before the answer."""
    store.put(NAME, [b"x"])
    assert calls == [
        "mkdir packs in .",
        "fsync .",
        "mkdir ab in packs",
        "fsync packs",
        "writev .",
        "fsync .",
        "link abcdef in packs/ab",
        "fsync packs/ab",
        "unlink . in .",
    ]


def test_a_draft_is_durable_before_it_has_a_name(store: LocalStore, calls: list[str]) -> None:
    """As a put; what is written before `keep` waits for no disk."""
    draft = store.begin()
    draft.write(b"x")
    draft.write(b"y")
    draft.keep(NAME)
    assert calls == [
        "writev .",
        "writev .",
        "mkdir packs in .",
        "fsync .",
        "mkdir ab in packs",
        "fsync packs",
        "fsync .",
        "link abcdef in packs/ab",
        "fsync packs/ab",
        "unlink . in .",
    ]


def test_directories_of_others_are_made_durable_once(root: Path, calls: list[str]) -> None:
    """Who made them may have died before fsync; after that only the object costs."""
    store = LocalStore.create(root)
    store.put("packs/ab/theirs", [b"x"])
    store.close()
    del calls[:]
    store = LocalStore(root)
    store.put(NAME, [b"x"])
    assert [call for call in calls if "fsync" in call] == [
        "fsync .",
        "fsync packs",
        "fsync .",
        "fsync packs/ab",
    ]
    del calls[:]
    store.put("packs/ab/another", [b"x"])
    assert [call for call in calls if "fsync" in call] == ["fsync .", "fsync packs/ab"]
    store.close()


def test_an_object_found_in_place_is_made_durable(store: LocalStore, calls: list[str]) -> None:
    """A put that finds its own bytes cannot know that their writer lived to sync them."""
    store.put(NAME, [b"x"])
    del calls[:]
    store.put(NAME, [b"x"])
    assert [call for call in calls if not call.startswith("mkdir")] == [
        f"fsync {NAME}",
        "fsync packs/ab",
    ]


def test_a_deletion_is_durable(store: LocalStore, calls: list[str]) -> None:
    """Also where another process removed the object and may not have come further."""
    store.put(NAME, [b"x"])
    del calls[:]
    store.delete(NAME)
    store.delete(NAME)
    assert calls == ["unlink abcdef in packs/ab", "fsync packs/ab"] * 2


# -- crashes --------------------------------------------------------------------------------------

_DIE_AT = """
import os, signal, sys
from pathlib import Path
from agent.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
real = getattr(os, sys.argv[2])
def die(*args, **kwargs):
    if sys.argv[3] == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[2], die)
store.put(sys.argv[4], [b"con", b"tent"])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["mkdir", "writev", "fsync", "link", "unlink"])
def test_a_killed_put_leaves_nothing_or_the_whole(
    store: LocalStore, root: Path, call: str, when: str
) -> None:
    """Nothing half is listed, the next one to open cleans up, and the put can be done again."""
    if call == "fsync":
        store.put("packs/ab/earlier", [b"x"])
    died = subprocess.run(
        [sys.executable, "-c", _DIE_AT, root, call, when, NAME], check=False, cwd=Path.cwd()
    )
    assert died.returncode == -signal.SIGKILL
    listed = [one for one in store.list("") if one.name == NAME]
    assert listed in ([], [Listed(NAME, 7)])
    LocalStore(root).close()
    assert left_over(root) == []
    store.put(NAME, [b"content"])
    assert store.get(NAME) == b"content"


def test_a_living_writers_file_is_left_alone(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others open the store meanwhile, as often as they like."""
    store.put("packs/ab/earlier", [b"x"])
    written, opened = threading.Event(), threading.Event()
    real = os.link

    def wait(*args: object, **kwargs: object) -> None:
        written.set()
        opened.wait()
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", wait)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(store.put, NAME, [b"content"])
        written.wait()
        try:
            for _ in range(3):
                LocalStore(root).close()
            names = left_over(root)
        finally:
            opened.set()
        put.result()
    assert len(names) == 1
    assert store.get(NAME) == b"content"
    assert left_over(root) == []


@pytest.mark.parametrize("removed", ["before the lock", "under a lock of its own"])
def test_a_writer_overtaken_by_a_sweep_starts_again(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    """Between making its file and locking it, a writer looks dead."""
    real = fcntl.flock
    overtaken: list[str] = []

    def overtake(file: int, operation: int) -> None:
        if overtaken:
            return real(file, operation)
        path = os.readlink(f"/proc/self/fd/{file}")
        overtaken.append(path)
        if removed == "before the lock":
            LocalStore(root).close()
            return real(file, operation)
        with open(path, "wb") as sweeping:
            real(sweeping, fcntl.LOCK_EX)
            try:
                return real(file, operation)
            finally:
                os.unlink(path)

    monkeypatch.setattr(fcntl, "flock", overtake)
    store.put(NAME, [b"content"])
    assert store.get(NAME) == b"content"
    assert len(overtaken) == 1
    assert left_over(root) == []


def test_writers_outrun_sweeps(store: LocalStore, root: Path) -> None:
    """No put fails because another process opens the store in the wrong moment."""
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            LocalStore(root).close()

    with ThreadPoolExecutor(2) as pool:
        sweeper = pool.submit(sweep)
        try:
            for number in range(300):
                store.put(f"a/{number}", [b"x"])
        finally:
            done.set()
        sweeper.result()
    assert len(list(store.list("a/"))) == 300


# -- disks that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["writev", "fsync", "link", "mkdir"])
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreUnavailable),
        (errno.EROFS, StoreUnavailable),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
def test_a_failed_put_stores_nothing_and_says_why(
    store: LocalStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    error: type[StoreError],
) -> None:
    """Whichever step fails; the name of the object is in the message, and the way out in a hint."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(error, match=NAME) as raised:
            store.put(NAME, [b"x"])
    assert raised.value.hint
    assert list(store.list("")) == []
    assert left_over(root) == []
    with pytest.raises(ObjectMissing):
        store.get(NAME)


@pytest.mark.parametrize("call", ["writev", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_draft_that_failed_stores_nothing_and_is_over(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Whichever step fails: its room is free at once, and nothing can be written on."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    draft = store.begin()
    draft.write(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        error = StoreFull if number == errno.ENOSPC else StoreUnavailable
        with pytest.raises(error) as raised:
            draft.write(b"y") if call == "writev" else draft.keep(NAME)
    assert raised.value.hint
    assert left_over(root) == []
    with pytest.raises(StoreUnavailable):
        draft.write(b"z")
    with pytest.raises(StoreUnavailable):
        draft.keep(NAME)
    assert list(store.list("")) == []


def test_a_draft_that_nobody_has_any_more_leaves_nothing(store: LocalStore, root: Path) -> None:
    """Neither a file nor a descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    draft = store.begin()
    draft.write(b"x")
    assert len(left_over(root)) == 1
    del draft
    assert left_over(root) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_draft_that_is_being_written_is_not_swept(store: LocalStore, root: Path) -> None:
    """Whoever opens the repository meanwhile leaves it alone."""
    draft = store.begin()
    draft.write(b"a")
    LocalStore(root).close()
    draft.write(b"b")
    draft.keep(NAME)
    assert store.get(NAME) == b"ab"
    assert left_over(root) == []


@pytest.mark.root
@pytest.mark.parametrize("options", ["size=1m", "nr_inodes=8"])
def test_a_full_disk_takes_nothing_and_keeps_what_it_has(tmp_path: Path, options: str) -> None:
    """Out of blocks or inodes: a clear error, no left-over, and room again once there is."""
    root = tmp_path / "small"
    with tmpfs(root, options):
        store = LocalStore(root)
        try:
            store.put("packs/a", [b"x" * 100])
            stored = fill(store)
            assert left_over(root) == []
            assert stored >= 1
            assert sorted(store.list("")) == sorted(
                [Listed(f"packs/{number}", FILLING) for number in range(stored)]
                + [Listed("packs/a", 100)]
            )
            store.put("packs/a", [b"x" * 100])  # already there: needs no room
            assert store.get("packs/0") == bytes(FILLING)
            store.delete("packs/0")
            store.put("packs/b", [bytes(200 * 1024)])
            assert store.size("packs/b") == 200 * 1024
        finally:
            store.close()


@pytest.mark.root
def test_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    """A worker needs no right to write, not even to clean up."""
    root = tmp_path / "small"
    with tmpfs(root, "size=1m"):
        store = LocalStore(root)
        store.put(NAME, [b"content"])
        (root / ".tmp-left-over").touch()
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        reader = LocalStore(root)
        try:
            assert reader.get(NAME) == b"content"
            assert list(reader.list("")) == [Listed(NAME, 7)]
            with pytest.raises(StoreUnavailable, match="Read-only"):
                reader.put("b", [b"x"])
            with pytest.raises(StoreUnavailable, match="Read-only"):
                reader.delete(NAME)
        finally:
            store.close()
            reader.close()


@pytest.mark.root
def test_nothing_is_written_over_a_bare_mount_point(tmp_path: Path) -> None:
    """A store that was opened stays the one that was opened, whatever is mounted over it."""
    root = tmp_path / "share"
    with tmpfs(root, "size=1m"):
        store = LocalStore(root)
        subprocess.run(["umount", "--lazy", root], check=True)
        try:
            store.put(NAME, [b"x"])
            assert store.get(NAME) == b"x"
            assert list(root.iterdir()) == []
        finally:
            store.close()
            subprocess.run(["mount", "-t", "tmpfs", "vitrine-test", root], check=True)
