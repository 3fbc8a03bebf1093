"""Counts and signs through real runs: in the snapshot, across crashes, with canaries."""

import logging
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from agent.backup.canaries import Canaries, Canary
from agent.backup.patterns import Patterns
from agent.backup.signs import Limits
from agent.backup.sources import Source
from agent.crypto.naming import object_name
from agent.errors import StoreUnavailable
from agent.model.snapshot import Changes, Sign
from agent.repository.signs import last_clean
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.vaults import snapshots

IMAGE = (files("pydicom.data") / "test_files" / "CT_small.dcm").read_bytes()
AT_ONCE = Limits(at_rest_ns=0, files=10)  # a test's files have been at rest for no time


@pytest.fixture
def made(tmp_path: Path) -> BackupFixture:
    """Return a backup of sixty images, in a snapshot already."""
    made = BackupFixture(MemoryStore(), tmp_path, limits=AT_ONCE)
    for number in range(60):
        image(made, number).parent.mkdir(exist_ok=True)
        image(made, number).write_bytes(IMAGE + b"%d" % number)
    made.run()
    return made


def image(made: BackupFixture, number: int) -> Path:
    """Return the path of an image: ten a directory."""
    return Path(os.fsdecode(made.source)) / f"{number // 10}" / f"{number}.dcm"


def kinds(made: BackupFixture) -> dict[str, int]:
    """Return the signs of the newest snapshot."""
    return {sign.kind: sign.count for sign in made.last().snapshot.signs}


def encrypt(made: BackupFixture, *numbers: int, suffix: str = "") -> None:
    """Overwrite images with noise, and rename them."""
    for number in numbers:
        path = image(made, number)
        path.write_bytes(os.urandom(len(IMAGE)))
        path.rename(f"{path}{suffix}")


def test_a_first_snapshot_counts_what_came_and_shows_no_sign(made: BackupFixture) -> None:
    """Everything is new."""
    snapshot = made.last().snapshot
    assert snapshot.changes == Changes(added=60, added_bytes=snapshot.bytes)
    assert snapshot.signs == ()


def test_an_attack_is_in_the_next_snapshot_and_the_one_before_is_clean(made: BackupFixture) -> None:
    """Overwritten in place, and overwritten and renamed; the counts say how many of each."""
    image(made, 0).write_bytes(IMAGE + b"edited")
    made.run()
    assert (kinds(made), made.last().snapshot.changes) == (
        {},
        Changes(0, 1, 0, 0, 0, len(IMAGE) + 6, 0),
    )
    encrypt(made, *range(10))
    encrypt(made, *range(10, 40), suffix=".locked")
    made.run()
    assert kinds(made) == {
        "lost-dicom": 40, "suffix-burst": 30,
    }, "and all of one study"  # fmt: skip
    assert made.last().snapshot.changes == Changes(
        30, 10, 30, 0, 30 * len(IMAGE), 10 * len(IMAGE), 30 * (len(IMAGE) + 2)
    )
    chain = snapshots(made.store, made.vault.secrets)
    assert last_clean(chain) == [chain[1]]


def test_a_scan_of_what_events_named_sees_the_same(made: BackupFixture) -> None:
    """A directory that is gone counts with all that was in it."""
    encrypt(made, *range(10))
    path = Path(os.fsdecode(made.source)) / "5"
    for one in path.iterdir():
        one.unlink()
    path.rmdir()
    made.run_dirty({b"0": None, b"": frozenset({b"5"})})
    changes = made.last().snapshot.changes
    assert changes is not None
    assert (changes.changed, changes.removed) == (10, 10)
    assert kinds(made) == {"lost-dicom": 10}


def test_a_renamed_directory_has_moved(made: BackupFixture) -> None:
    """Nothing came and nothing went."""
    os.rename(image(made, 0).parent, Path(os.fsdecode(made.source)) / "renamed")
    os.rename(image(made, 59).parent, Path(os.fsdecode(made.source)) / "0first")
    made.run()
    assert (made.last().snapshot.changes, kinds(made)) == (Changes(moved=20), {})


def test_an_attack_through_several_snapshots_and_a_new_process_adds_up(made: BackupFixture) -> None:
    """Two images a snapshot: the third shows it, and where it began."""
    for start in (0, 2, 4):
        encrypt(made, start, start + 1)
        made.run()
        made.restart()
    assert made.last().snapshot.signs == (Sign("lost-dicom", 6, 60, 2),)
    chain = snapshots(made.store, made.vault.secrets)
    assert [info.snapshot.sequence for info in last_clean(chain)] == [1]


def test_what_a_failed_run_saw_is_in_the_next_snapshot(
    made: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal knows the changes by then, so they would never be seen again."""
    encrypt(made, *range(5))
    put = made.store.put

    def refuse(name: str, parts: object) -> None:
        if name.startswith("snapshots/"):
            raise StoreUnavailable("gone for a while")
        put(name, parts)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(made.store, "put", refuse)
        with pytest.raises(StoreUnavailable):
            made.run()
    made.restart()
    encrypt(made, 5)
    made.run()
    assert kinds(made) == {"lost-dicom": 6}
    image(made, 9).write_bytes(IMAGE)
    made.run()
    assert (kinds(made), made.last().snapshot.changes) == (
        {}, Changes(changed=1, changed_bytes=len(IMAGE)),
    )  # fmt: skip


def test_a_journal_that_was_begun_anew_knows_of_no_change(made: BackupFixture) -> None:
    """What is read again is not new; from then on it is counted again."""
    made.backup.close()
    for path in (made.scratch / "state").glob("journal.sqlite*"):
        path.unlink()
    made.backup = made.another()
    encrypt(made, *range(20))
    made.run()
    assert (made.last().snapshot.changes, kinds(made)) == (None, {})
    encrypt(made, *range(20, 30))
    made.run()
    assert kinds(made) == {"lost-dicom": 10}


def test_sources_that_come_go_or_are_away_show_no_sign(made: BackupFixture, tmp_path: Path) -> None:
    """A new one only adds, one that is configured no more is no deletion, nor one unmounted."""
    second = tmp_path / "second"
    second.mkdir()
    for number in range(50):
        (second / f"{number}").write_bytes(b"%d" % number)
    made.sources.append(Source(os.fsencode(second), b"second", Patterns()))
    made.restart()
    made.run()
    assert (kinds(made), made.last().snapshot.changes) == (
        {}, Changes(added=50, added_bytes=90),
    )  # fmt: skip
    second.rename(tmp_path / "away")
    made.run(force=True)
    assert (kinds(made), made.last().snapshot.changes) == ({}, Changes())
    (tmp_path / "away").rename(second)
    made.sources.pop()
    made.restart()
    made.run()
    assert (kinds(made), made.last().snapshot.changes) == ({}, Changes())


def test_what_new_patterns_leave_out_is_not_gone(made: BackupFixture) -> None:
    """Whoever configures the agent decides that; the next run judges again."""
    patterns = Patterns(exclude=["/0/", "/1/", "/2/"])
    made.sources[0] = made.sources[0]._replace(patterns=patterns)
    made.restart()
    made.run()
    assert kinds(made) == {}
    encrypt(made, 30, 31, 32, 33, 34)
    made.run()
    assert kinds(made) == {"lost-dicom": 5}


def test_an_image_that_keeps_its_magic_but_not_its_header_is_broken(made: BackupFixture) -> None:
    """The journal knows of every file whether it claims to be DICOM."""
    for number in range(5):
        image(made, number).write_bytes(IMAGE[:132] + os.urandom(5000))
    made.run()
    assert kinds(made) == {"broken-dicom": 5}
    encrypt(made, *range(5))
    made.run()
    assert kinds(made) == {"lost-dicom": 5}


# -- canaries --------------------------------------------------------------------------------------


def canary(made: BackupFixture, number: int, content: bytes | None = None) -> Canary:
    """Return an image as a canary."""
    path = os.fsencode(image(made, number))
    digest = object_name(Path(os.fsdecode(path)).read_bytes() if content is None else content)
    return Canary(f"{number}", "study", made.source, os.path.relpath(path, made.source), digest, 0)


@pytest.fixture
def guarded(made: BackupFixture) -> BackupFixture:
    """Return the backup with two canaries that were seen whole."""
    Canaries(made.scratch / "state").write([canary(made, 0), canary(made, 59)])
    made.run()
    return made


@pytest.mark.parametrize("what", ["changed", "renamed", "gone", "directory gone"])
def test_a_single_touched_canary_is_a_sign_at_once_and_once(
    guarded: BackupFixture, what: str
) -> None:
    """Later snapshots do not repeat it, also those of another process."""
    path = image(guarded, 59)
    if what == "changed":
        path.write_bytes(IMAGE)
    elif what == "renamed":
        path.rename(f"{path}.bak")
    elif what == "gone":
        path.unlink()
    else:
        path.parent.rename(f"{path.parent}.moved")
    guarded.run()
    assert guarded.last().snapshot.signs == (Sign("canary", 1, 2, 2),)
    image(guarded, 20).write_bytes(IMAGE)
    guarded.restart()
    guarded.run()
    assert kinds(guarded) == {}


def test_a_canary_is_not_missed_before_it_was_seen(made: BackupFixture) -> None:
    """It is written, then made known: a run under way may have passed its directory."""
    known = canary(made, 3)
    hidden = Canary("late", "study", made.source, b"9/late.dcm", object_name(b"late"), 0)
    Canaries(made.scratch / "state").write([known, hidden])
    assert made.run().taken is None
    path = Path(os.fsdecode(made.source)) / "9" / "late.dcm"
    path.parent.mkdir()
    path.write_bytes(b"late")
    made.run()
    assert kinds(made) == {}
    path.unlink()
    made.run()
    assert kinds(made) == {"canary": 1}


def test_a_canary_whose_source_is_away_or_removed_is_not_missed(guarded: BackupFixture) -> None:
    """A source that is not mounted has a state of its own; it is looked at when it is back."""
    source = Path(os.fsdecode(guarded.source))
    source.rename(source.with_name("away"))
    guarded.sources.append(Source(os.fsencode(guarded.scratch), b"x", Patterns(exclude=["/state"])))
    guarded.restart()
    guarded.run()
    assert kinds(guarded) == {}
    source.with_name("away").rename(source)
    image(guarded, 0).write_bytes(b"touched")
    guarded.run()
    assert kinds(guarded)["canary"] == 1


def test_a_list_of_canaries_that_is_damaged_stops_no_snapshot(
    guarded: BackupFixture, expect_log: Callable[..., None]
) -> None:
    """It is said in the log; what had been seen is not forgotten."""
    expect_log("canaries are not checked", level=logging.ERROR)
    path = guarded.scratch / "state" / "canaries.json"
    good = path.read_bytes()
    path.write_bytes(good[:50])
    image(guarded, 0).write_bytes(b"touched")
    assert guarded.run().taken is not None
    path.write_bytes(good)
    guarded.run()
    assert kinds(guarded) == {"canary": 1}
