"""Signs of an attack: what hospitals do all day shows none, what an attack does shows some."""

from collections.abc import Callable
from itertools import groupby

import pytest

from agent.backup.counting import Counting
from agent.backup.signs import DAY_NS, DEFAULT_LIMITS, Limits, Tally, changes, judge, together
from agent.crypto.naming import object_name
from agent.model.snapshot import Changes, Sign
from agent.model.tree import DicomIdentity, Entry, Flaw, Kind

SOURCE = 7
NOW = 1_000 * DAY_NS
OLD, YOUNG, A_WEEK = NOW - 300 * DAY_NS, NOW - DAY_NS // 2, NOW - 7 * DAY_NS
CLAIMS = DicomIdentity()
Files = dict[tuple[str, bytes], Entry]
"""Directory and name → entry."""


def file(name: str, content: object, ctime_ns: int = OLD, dicom: DicomIdentity | None = None,
         flaw: Flaw = Flaw.NONE) -> Entry:  # fmt: skip
    """Return a file whose content is told from others by `content`."""
    digest = object_name(repr(content).encode())
    return Entry(name.encode(), size=1000, ctime_ns=ctime_ns, digest=digest, dicom=dicom, flaw=flaw)


def put(files: Files, path: str, content: object, **more: object) -> None:
    """Put a file at a path."""
    directory, _, name = path.rpartition("/")
    files[directory, name.encode()] = file(name, content, **more)  # type: ignore[arg-type]


def image(study: int) -> DicomIdentity:
    """Return the identity of an image of a study."""
    return DicomIdentity(study=b"1.2.%d" % study)


def archive(studies: int = 50, images: int = 100, suffix: str = ".dcm") -> Files:
    """Return an archive of images at rest, a directory a study."""
    files: Files = {}
    for study in range(studies):
        for number in range(images):
            put(files, f"study{study}/{number}{suffix}", (study, number), dicom=image(study))
    return files


def orthanc(studies: int, images: int) -> Files:
    """Return an archive as Orthanc has it: names that say nothing, and a summary of each image."""
    files: Files = {}
    for study in range(studies):
        for number in range(images):
            name = object_name(f"{study} {number}".encode()).hex()
            put(files, f"{name[:2]}/{name[2:4]}/{name}", (study, number), dicom=image(study))
            put(files, f"{name[:2]}/{name[2:4]}/{name[::-1]}", (study, number, "json"))
    return files


def documents(count: int, ctime_ns: int = OLD) -> Files:
    """Return files that are no images."""
    files: Files = {}
    for number in range(count):
        put(files, f"docs/{number}.pdf", number, ctime_ns=ctime_ns)
    return files


def run(before: Files, after: Files, *, gone_first: bool = True, files: int | None = None) -> Tally:
    """Return what is counted when one becomes the other, removals first or last."""
    tally = Tally(files=len(before) if files is None else files)
    numbers = {name: at for at, name in enumerate(sorted({d for d, _ in before | after}), 1)}
    counting = Counting({SOURCE: tally}, lambda _: SOURCE, NOW - DEFAULT_LIMITS.at_rest_ns)
    steps = [before.keys() - after.keys(), after.keys() - before.keys(), before.keys() & after]
    for step in steps if gone_first else reversed(steps):
        for directory, names in groupby(sorted(step), key=lambda at: at[0]):
            here = sorted(name for _, name in names)
            old = [before[directory, name] for name in here if (directory, name) in before]
            counting.note(
                numbers[directory], old, [(name, after.get((directory, name))) for name in here]
            )
    return tally


def signs(*tallies: Tally, limits: Limits = DEFAULT_LIMITS) -> dict[str, int]:
    """Return the signs of the last of some tallies: kind → count."""
    return {sign.kind: sign.count for sign in judge(list(enumerate(tallies, 1)), limits)}


# -- what hospitals do ---------------------------------------------------------------------------


def arriving() -> tuple[Files, Files]:
    """Let a study of 5,000 images arrive."""
    files = archive()
    new = {(f"new/{d}", name): e for (d, name), e in archive(1, 5000).items()}
    return files, files | {
        at: file(at[1].decode(), ("new", at), NOW, image(99)) for at in new
    }  # fmt: skip


def nightly_deletion() -> tuple[Files, Files]:
    """Delete three old studies of fifty."""
    files = archive()
    return files, {at: e for at, e in files.items() if at[0] not in {"study1", "study2", "study3"}}


def merge_in_orthanc() -> tuple[Files, Files]:
    """Merge one study, which is half of a small archive: new files appear, the old ones go."""
    files = orthanc(2, 1500)
    old = {at for at, e in orthanc(1, 1500).items() if files[at] == e}
    after = {at: e for at, e in files.items() if at not in old}
    for number in range(1500):
        name = object_name(f"merged {number}".encode()).hex()
        put(after, f"{name[:2]}/{name[2:4]}/{name}", ("merged", number), dicom=image(0))
        put(after, f"{name[:2]}/{name[2:4]}/{name[::-1]}", ("merged", number, "json"))
    return files, after


def headers_edited_in_place() -> tuple[Files, Files]:
    """Run dcmodify over all images of a study that is a third of the archive."""
    files = archive(3, 400)
    return files, {
        at: file(at[1].decode(), ("edited", at), NOW, e.dicom) if at[0] == "study1" else e
        for at, e in files.items()
    }


def directory_renamed() -> tuple[Files, Files]:
    """Give everything another path, or other owners: the content is the same."""
    files = archive()
    return files, {(f"moved/{d}", name): e for (d, name), e in files.items()}


def owners_changed() -> tuple[Files, Files]:
    """Run chown over everything."""
    files = archive() | documents(500)
    return files, {
        at: Entry(e.name, size=e.size, uid=33, ctime_ns=NOW, digest=e.digest, dicom=e.dicom)
        for at, e in files.items()
    }


def messages_done() -> tuple[Files, Files]:
    """Have an interface engine mark a thousand messages as done by renaming them."""
    files = {("hl7", b"%d.hl7" % n): file(f"{n}.hl7", n) for n in range(1000)}
    return files, {("hl7", n + b".done"): file(f"{n.decode()}.done", c)
                   for c, (_, n) in enumerate(files)}  # fmt: skip


def spool_emptied() -> tuple[Files, Files]:
    """Process all of a spool: what came today is gone."""
    return documents(500, YOUNG), {}


def weekly_base_backup() -> tuple[Files, Files]:
    """Write the weekly copy of a database over last week's."""
    return documents(2000, A_WEEK), {
        at: file(e.name.decode(), ("this week", at), NOW)
        for at, e in documents(2000, A_WEEK).items()
    }


def logs_compressed() -> tuple[Files, Files]:
    """Compress a dozen logs in place."""
    files = {("log", b"%d.log" % n): file(f"{n}.log", n) for n in range(12)}
    return files, {("log", n + b".gz"): file(f"{n.decode()}.gz", ("gz", n)) for _, n in files}


def some_images_torn() -> tuple[Files, Files]:
    """Read images while their writer rewrites them: marked, so they say nothing."""
    files = archive()
    return files, files | {
        at: file(e.name.decode(), "torn", NOW, None, Flaw.CHANGED_WHILE_READ)
        for at, e in list(files.items())[:50]
    }


def unreadable_for_a_while() -> tuple[Files, Files]:
    """Take the agent's right to read away."""
    files = archive()
    return files, {
        at: Entry(e.name, size=e.size, ctime_ns=NOW, flaw=Flaw.UNREADABLE)
        for at, e in files.items()
    }


def a_few_images_spoilt() -> tuple[Files, Files]:
    """Have a failing disk empty four images."""
    files = archive()
    return files, files | {
        at: file(e.name.decode(), "", NOW) for at, e in list(files.items())[:4]
    }  # fmt: skip


def first_snapshot() -> tuple[Files, Files]:
    """See a source for the first time."""
    return {}, archive(suffix=".dcm.locked")


Story = Callable[[], tuple[Files, Files]]
CALM: list[Story] = [
    arriving, nightly_deletion, merge_in_orthanc, headers_edited_in_place, directory_renamed,
    owners_changed, messages_done, spool_emptied, weekly_base_backup, logs_compressed,
    some_images_torn, unreadable_for_a_while, a_few_images_spoilt, first_snapshot,
]  # fmt: skip


@pytest.mark.parametrize("gone_first", [True, False])
@pytest.mark.parametrize("story", CALM, ids=lambda story: story.__name__)
def test_what_hospitals_do_shows_no_sign(story: Story, gone_first: bool) -> None:
    """Whichever comes first in the scan, what came or what went."""
    before, after = story()
    tally = run(before, after, gone_first=gone_first)
    assert tally != Tally(files=len(before)) or story in {owners_changed, unreadable_for_a_while}
    assert signs(tally) == {}


def test_a_database_that_changes_every_minute_shows_no_sign() -> None:
    """An hour of it: three files that are never at rest, beside an archive."""
    files = archive()
    hour = []
    for minute in range(60):
        before, after = dict(files), dict(files)
        for name in ("index", "index-wal", "index-shm"):
            put(before, f"db/{name}", minute, ctime_ns=NOW - 60 * 10**9)
            put(after, f"db/{name}", minute + 1, ctime_ns=NOW)
        hour.append(run(before, after))
    assert signs(*hour) == {}
    assert not any(tally.is_suspect for tally in hour)


# -- what attacks do -------------------------------------------------------------------------------


def overwritten(count: int, was: Files, *, dicom: DicomIdentity | None = None) -> Files:
    """Return an archive after some of its files were overwritten in place."""
    some = list(was.items())[:: len(was) // count][:count]
    return was | {at: file(e.name.decode(), ("random", at), NOW, dicom) for at, e in some}


def locked(count: int, was: Files, suffix: str = ".locked") -> Files:
    """Return files after some were overwritten and got a suffix."""
    after = dict(was)
    for (directory, name), _ in list(was.items())[:: len(was) // count][:count]:
        del after[directory, name]
        put(after, f"{directory}/{name.decode()}{suffix}", ("random", name), ctime_ns=NOW)
    return after


def headers_kept(was: Files) -> Files:
    """Return an archive of which a third of the images have other pixels."""
    some = list(was.items())[::3]
    return was | {at: file(e.name.decode(), ("random", at), NOW, e.dicom) for at, e in some}


def renamed_at_random(was: Files) -> Files:
    """Return an archive after half of it was overwritten under names that say nothing."""
    after = dict(list(was.items())[::2])
    for number in range(len(was) - len(after)):
        put(after, f"study0/{number:08x}", ("random", number), ctime_ns=NOW)
    return after


ATTACKS: list[tuple[str, Files, Callable[[Files], Files], set[str]]] = [
    ("five images overwritten", archive(), lambda f: overwritten(5, f), {"lost-dicom"}),
    ("images emptied", archive(),
     lambda f: f | {at: file(e.name.decode(), "", NOW) for at, e in list(f.items())[:9]},
     {"lost-dicom"}),
    ("magic kept", archive(), lambda f: overwritten(5, f, dicom=CLAIMS), {"broken-dicom"}),
    ("five images locked", archive(), lambda f: locked(5, f), {"lost-dicom"}),
    ("names of Orthanc locked", orthanc(50, 20), lambda f: locked(100, f),
     {"lost-dicom", "suffix-burst"}),
    ("a suffix of several dots", archive(), lambda f: locked(20, f, ".id-7F.[a@b.org].lock"),
     {"lost-dicom", "suffix-burst"}),
    ("documents of today locked", documents(400, YOUNG), lambda f: locked(20, f), {"suffix-burst"}),
    ("headers kept", archive(), headers_kept, {"mass-change"}),
    ("documents overwritten", documents(400), lambda f: overwritten(100, f), {"mass-change"}),
    ("a third deleted", archive(), lambda f: dict(list(f.items())[: len(f) * 2 // 3]),
     {"mass-deletion"}),
    ("renamed at random", archive(), renamed_at_random, {"mass-deletion"}),
]  # fmt: skip


@pytest.mark.parametrize("gone_first", [True, False])
@pytest.mark.parametrize(
    ("before", "attack", "kinds"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS]
)
def test_an_attack_shows_signs(
    before: Files, attack: Callable[[Files], Files], kinds: set[str], gone_first: bool
) -> None:
    """By those rules that it breaks, and no others."""
    assert signs(run(before, attack(before), gone_first=gone_first)).keys() == kinds


def test_what_is_slow_adds_up_and_says_when_it_began() -> None:
    """Two images a snapshot: the third shows it, and the first is where it began."""
    files = archive()
    each = [run(files, overwritten(2, files)) for _ in range(3)]
    assert signs(*each[:2]) == {}
    calm = Tally(files=5000, added=3)
    history = [(4, calm), *zip((5, 6, 7), each, strict=True)]
    assert judge(history, DEFAULT_LIMITS) == [Sign("lost-dicom", 6, 5000, 5)]


def test_a_snapshot_in_which_nothing_more_happens_shows_no_sign() -> None:
    """Or every one of the hour after an attack would raise an alarm of its own."""
    files = archive()
    assert signs(run(files, overwritten(9, files)), Tally(files=5000, added=1)) == {}


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (Limits(lost_dicom=10), True),
        (Limits(lost_dicom=11), False),
    ],
)
def test_limits_are_limits(limits: Limits, found: bool) -> None:
    """As many as the limit says are a sign, one fewer is none."""
    files = archive()
    assert bool(signs(run(files, overwritten(10, files)), limits=limits)) is found


@pytest.mark.parametrize(("share", "found"), [(0.2, True), (0.21, False)])
def test_mass_is_a_share_of_the_source(share: float, found: bool) -> None:
    """One in five of its files."""
    files = documents(1000)
    tally = run(files, overwritten(200, files))
    assert bool(signs(tally, limits=Limits(share=share))) is found


# -- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone_first", [True, False])
def test_files_and_bytes_are_counted(gone_first: bool) -> None:
    """Moved files are neither added nor removed; metadata alone is no change."""
    before, after = documents(10), documents(10)
    put(after, "docs/new", "new")
    put(after, "docs/1.pdf", "other")
    after["elsewhere", b"renamed"] = file("renamed", 2)
    for name in (b"2.pdf", b"3.pdf"):
        del after["docs", name]
    tally = run(before, after, gone_first=gone_first)
    expected = Changes(1, 1, 1, 1, 1000, 1000, 1000)
    assert changes([tally]) == expected
    assert changes([tally, tally]).added == 2
    assert changes([]) == Changes()


def test_what_is_remembered_of_a_run_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many files that come and go the oldest are forgotten, and are not taken for moved."""
    monkeypatch.setattr("agent.backup.counting.CONTENTS", 1000)
    monkeypatch.setattr("agent.backup.counting.NAMES", 100)
    tally = Tally(files=10)
    counting = Counting({SOURCE: tally}, lambda _: SOURCE, NOW)
    names = [f"{n:08}.dcm" for n in range(10_000)]
    counting.note(1, [], [(name.encode(), file(name, name)) for name in names])
    assert 1000 <= len(counting._come) <= 2000
    assert 100 <= len(counting._come_names) <= 200
    counting.dropped(1, [file(names[0], names[0]), file("last", names[-1])])
    assert (tally.added, tally.removed, tally.moved) == (9_999, 1, 1)


@pytest.mark.parametrize("gone_first", [True, False])
def test_equal_files_are_counted_one_by_one(gone_first: bool) -> None:
    """Three copies that move are three, whichever comes first."""
    copies = {("a", b"%d" % n): file(f"{n}", "the same") for n in range(3)}
    moved = {("b", name): entry for (_, name), entry in copies.items()}
    assert changes([run(copies, moved, gone_first=gone_first)]) == Changes(moved=3)


def test_directories_and_other_sources_are_not_counted() -> None:
    """A directory is no file, and one above the sources is nobody's."""
    tally = Tally(files=3)
    counting = Counting({SOURCE: tally}, {1: SOURCE, 2: 0}.__getitem__, NOW)
    counting.note(1, [], [(b"d", Entry(b"d", Kind.DIRECTORY))])
    counting.note(2, [], [(b"f", file("f", "f"))])
    assert tally == Tally(files=3)
    counting.note(1, [Entry(b"d", Kind.DIRECTORY)], [(b"d", file("d", "now a file"))])
    assert tally.added == 1


def test_signs_of_several_sources_are_one_a_kind() -> None:
    """Counted together, from the earliest on."""
    found = together([Sign("canary", 1, 3, 9), Sign("lost-dicom", 5, 50, 8),
                      Sign("lost-dicom", 7, 70, 6)])  # fmt: skip
    assert found == (Sign("canary", 1, 3, 9), Sign("lost-dicom", 12, 120, 6))
