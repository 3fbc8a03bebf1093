"""Counting what happens to files: one entry beside the one before it, as the journal changes.

Called where the journal replaces pages, so what is unchanged costs nothing.  What went under one
name and came under another, with the same content, has moved; with other content and the old name
before a new suffix, it was rewritten.  Which comes first in a scan is chance.  Memory: the last
contents and names that came or went (`CONTENTS`, `NAMES`).
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from agent.backup.leaf import Change
from agent.backup.recent import Recent
from agent.backup.signs import AtRest, Tally
from agent.crypto.naming import object_name
from agent.model.tree import DicomIdentity, Entry, Flaw, Kind

CONTENTS: Final = 131_072  # 10 to 20 MB, each of gone and come: more that move at once are gone
NAMES: Final = 32_768  # 4 to 8 MB: an attack shows long before
MAX_SUFFIXES: Final = 64  # told apart in one run
MAX_STUDIES: Final = 64  # more is many
_CUTS: Final = 4  # dots of a new name that a suffix may begin at: .id-7F.[who@where.org].locked
_DIGEST_BYTES: Final = 8
_NO_IDENTITY: Final = DicomIdentity()

NOT_DICOM, CLAIMS, READ, TORN = range(4)
_YOUNG, _IMAGE, _OTHER = range(3)  # how a removal was counted


class Counting:
    """Counts for one run, into a tally a source."""

    def __init__(
        self, tallies: Mapping[int, Tally], source_of: Callable[[int], int], at_rest_before_ns: int
    ) -> None:
        """Take the tallies by source; others are not counted.

        `source_of` tells the source of a directory.  A version is at rest if it is older than
        `at_rest_before_ns`, by ctime: nothing but the kernel sets it.
        """
        self._tallies = tallies
        self._source_of = source_of
        self._before_ns = at_rest_before_ns
        self._last = (0, 0)
        self._gone = Recent[int](CONTENTS)  # by content and how it was counted: how often
        self._come = Recent[int](CONTENTS)  # by content: how often
        self._gone_names = Recent[int](NAMES)  # what it was, as of DICOM
        self._come_names = Recent[tuple[bytes, int]](NAMES)  # without suffix: suffix, and the same

    def note(self, directory: int, old: Sequence[Entry], changes: Sequence[Change]) -> None:
        """Count `changes`, in name order, of a directory that had `old`, in name order."""
        source = self._source(directory)
        tally = self._tallies.get(source)
        if tally is None:
            return
        if not tally.files and (not old or old[-1].name < changes[0][0]):
            _first(tally, changes)
            return
        names = {name for name, _ in changes}
        known = {entry.name: entry for entry in old if entry.name in names}
        for name, new in changes:
            self._count((source, directory), tally, known.get(name), new)

    def dropped(self, directory: int, old: Sequence[Entry]) -> None:
        """Count all that a directory had, which is about to be forgotten."""
        self.note(directory, old, [(entry.name, None) for entry in old])

    def _source(self, directory: int) -> int:
        if self._last[0] != directory:
            self._last = directory, self._source_of(directory)
        return self._last[1]

    def _count(
        self, place: tuple[int, int], tally: Tally, was: Entry | None, new: Entry | None
    ) -> None:
        is_file = new is not None and new.kind is not Kind.DIRECTORY
        if was is None or was.kind is Kind.DIRECTORY:
            if new is not None and is_file:
                self._added(place, tally, new)
        elif new is None or not is_file:
            self._removed(place, tally, was)
        elif (was.digest, was.target) != (new.digest, new.target):
            self._changed(tally, was, new)

    # -- one file -------------------------------------------------------------------------------

    def _changed(self, tally: Tally, was: Entry, new: Entry) -> None:
        if Flaw.UNREADABLE in (was.flaw, new.flaw):  # nobody knows whether it did
            return
        tally.changed += 1
        tally.changed_bytes += new.size
        self._at_rest(tally, tally.at_rest_changed, was)
        _compare_images(tally, dicom_state(was), dicom_state(new))

    def _removed(self, place: tuple[int, int], tally: Tally, was: Entry) -> None:
        content = hash((place[0], was.digest))
        if was.digest and _take_one(self._come, content):
            tally.added -= 1
            tally.added_bytes -= was.size
            tally.moved += 1
            return
        tally.removed += 1
        tally.removed_bytes += was.size
        how = self._at_rest(tally, tally.at_rest_removed, was)
        if not was.digest:
            return
        _put_one(self._gone, content + how)
        name = hash((place[1], was.name))
        renamed = self._come_names.take(name)
        if renamed is None:
            self._gone_names.put(name, dicom_state(was))
        else:
            _rewritten(tally, dicom_state(was), *renamed)

    def _added(self, place: tuple[int, int], tally: Tally, new: Entry) -> None:
        content = hash((place[0], new.digest))
        for how in (_YOUNG, _IMAGE, _OTHER) if new.digest else ():
            if _take_one(self._gone, content + how):
                _uncount(tally, how, new)
                return
        tally.added += 1
        tally.added_bytes += new.size
        if not new.digest:
            return
        _put_one(self._come, content)
        for base, suffix in _suffixes(new.name):
            was = self._gone_names.take(hash((place[1], base)))
            if was is not None:
                _rewritten(tally, was, suffix, dicom_state(new))
                return
        for base, suffix in _suffixes(new.name):
            self._come_names.put(hash((place[1], base)), (suffix, dicom_state(new)))

    def _at_rest(self, tally: Tally, counts: AtRest, was: Entry) -> int:
        """Count a version if it was at rest; return how, for `_uncount`."""
        if was.ctime_ns > self._before_ns or was.kind is not Kind.FILE:
            return _YOUNG
        if was.dicom is None:
            counts.others += 1
            return _OTHER
        counts.images += 1
        if len(tally.studies) < MAX_STUDIES:
            tally.studies.add(zlib.crc32(was.dicom.study))
        return _IMAGE


def dicom_state(entry: Entry) -> int:
    """Return whether a file is DICOM: not, by its magic alone, or its header could be read.

    Of one that was changed while it was read, or could not be, nobody knows.
    """
    if entry.flaw is not Flaw.NONE:
        return TORN
    if entry.dicom is None:
        return NOT_DICOM
    return READ if entry.dicom != _NO_IDENTITY else CLAIMS


def _first(tally: Tally, changes: Sequence[Change]) -> None:
    """Count files of a source that had none: they only come."""
    new = [e.size for _, e in changes if e is not None and e.kind is not Kind.DIRECTORY]
    tally.added += len(new)
    tally.added_bytes += sum(new)


def _uncount(tally: Tally, how: int, new: Entry) -> None:
    """Take back a removal: the content has come again, under another name."""
    tally.removed -= 1
    tally.removed_bytes -= new.size
    tally.moved += 1
    tally.at_rest_removed.images -= how == _IMAGE
    tally.at_rest_removed.others -= how == _OTHER


def _rewritten(tally: Tally, was: int, suffix: bytes, now: int) -> None:
    """Count a file that came back as other content, its name with a suffix."""
    digest = object_name(suffix)[:_DIGEST_BYTES]
    if digest in tally.suffixes or len(tally.suffixes) < MAX_SUFFIXES:
        tally.suffixes[digest] = tally.suffixes.get(digest, 0) + 1
    _compare_images(tally, was, now)


def _compare_images(tally: Tally, was: int, now: int) -> None:
    """Count an image that is none any more."""
    if was in {CLAIMS, READ} and now == NOT_DICOM:
        tally.lost += 1
    elif was == READ and now == CLAIMS:
        tally.broken += 1


def _suffixes(name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the ways to take a name for another one with a suffix, shortest suffix first."""
    at = len(name)
    for _ in range(_CUTS):
        at = name.rfind(b".", 0, at)
        if at < 1:
            return
        yield name[:at], name[at:]


def _put_one(counts: Recent[int], key: int) -> None:
    counts.put(key, (counts.take(key) or 0) + 1)


def _take_one(counts: Recent[int], key: int) -> bool:
    """Tell whether there was one, and take it."""
    count = counts.take(key)
    if count is not None and count > 1:
        counts.put(key, count - 1)
    return count is not None
