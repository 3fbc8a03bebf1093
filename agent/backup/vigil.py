"""Watching one run for signs of an attack: counts kept across crashes, and judged at its end.

Counts go into the journal with the changes that they count, in one transaction: a run that is cut
short has its part in the next snapshot.  What may add up to a sign is kept for the window of the
rules, so that what is slow is seen as well.
"""

import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent.backup.canaries import Canaries, CanaryCheck
from agent.backup.counting import Counting
from agent.backup.journal import Journal
from agent.backup.pages import Pages
from agent.backup.patterns import Patterns
from agent.backup.signs import Limits, SignKind, Tally, changes, judge, together
from agent.backup.sources import ReadySource
from agent.errors import ConfigInvalid
from agent.model.snapshot import FIRST_SEQUENCE, Changes, Sign

MAX_PAST = 720  # snapshots that are looked back at: one every five seconds for an hour

log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What a snapshot says of what happened since the one before."""

    changes: Changes | None  # None: the journal was begun anew, so nobody knows
    signs: tuple[Sign, ...]


class _Kept(msgspec.Struct, array_like=True):
    """The tallies of what will be the snapshot `sequence`."""

    sequence: int
    tallies: dict[int, Tally]
    is_blind: bool = False  # there were snapshots that the journal knows nothing of


class _Past(msgspec.Struct, array_like=True):
    """A snapshot of the window with something suspect."""

    sequence: int
    taken_ns: int
    tallies: dict[int, Tally]


class Vigil:
    """One run's; everything here is done by the journal's thread."""

    def __init__(
        self,
        journal: Journal,
        pages: Pages,
        canaries: Canaries,
        sequence: int,
        started_ns: int,
        limits: Limits,
    ) -> None:
        """Take up what an interrupted run had counted for the snapshot `sequence`."""
        self._journal = journal
        self._check = CanaryCheck(journal, pages)
        self._canaries = canaries
        self._sequence = sequence
        self._limits = limits
        self._started_ns = started_ns
        self._tallies: dict[int, Tally] = {}
        self._is_blind = False
        self._unjudged: set[int] = set()
        self._sources: dict[bytes, int] = {}
        self._past = self._read_past()
        self._read_kept()
        self._saved = b""

    def watch(self, ready: Sequence[ReadySource]) -> Counting:
        """Begin with these sources; return what counts."""
        marks = {one.root.source: _mark(one.source.patterns) for one in ready}
        fact = self._journal.fact("patterns")
        before = msgspec.msgpack.decode(fact, type=dict[int, int]) if fact else {}
        self._is_blind = self._is_blind or (not before and self._sequence > FIRST_SEQUENCE)
        for one in ready:
            number = one.root.source
            self._sources[one.source.path] = number
            self._tallies.setdefault(number, Tally(files=one.root.files))
            if before.get(number, marks[number]) != marks[number]:
                self._unjudged.add(number)  # what patterns leave out from now on is not gone
        if before != before | marks:
            self._journal.note("patterns", msgspec.msgpack.encode(before | marks))
        self._saved = self._encoded()
        before_ns = self._started_ns - self._limits.at_rest_ns
        return Counting(self._tallies, self._source_of, before_ns)

    def save(self) -> None:
        """Put the counts into the journal's transaction, if there is anything new to keep."""
        encoded = self._encoded()
        if encoded != self._saved:
            self._journal.note("tally", encoded)
            self._saved = encoded

    def judge(self) -> Verdict:
        """Return what to say of the snapshot that is about to be taken."""
        signs = [
            sign
            for number, tally in self._tallies.items()
            if number not in self._unjudged
            for sign in judge([*self._history(number), (self._sequence, tally)], self._limits)
        ]
        signs += self._touched()
        counted = None if self._is_blind else changes(self._tallies.values())
        return Verdict(counted, together(signs))

    def taken(self, taken_ns: int) -> None:
        """Go over into the past: the snapshot was taken.  The caller commits."""
        self._remember(_Past(self._sequence, taken_ns, self._suspect(self._tallies)))
        self.nothing_taken()

    def nothing_taken(self) -> None:
        """Forget the counts, which came to nothing.  The caller commits."""
        if self._journal.fact("tally"):
            self._journal.note("tally", b"")
        self._saved = self._encoded()

    def _touched(self) -> list[Sign]:
        """Check the canaries; a snapshot does not wait for a list of them that is damaged."""
        try:
            canaries = self._canaries.read()
        except ConfigInvalid as error:
            log.error("canaries are not checked: %s", error.message)
            return []
        files, of = self._check.run(canaries, self._sources)
        return [Sign(SignKind.CANARY.value, files, of, self._sequence)] if files else []

    def _encoded(self) -> bytes:
        return msgspec.msgpack.encode(_Kept(self._sequence, self._tallies, self._is_blind))

    # -- what was before ------------------------------------------------------------------------

    def _read_kept(self) -> None:
        fact = self._journal.fact("tally")
        kept = msgspec.msgpack.decode(fact, type=_Kept) if fact else None
        if kept is None:
            return
        if kept.sequence == self._sequence:
            self._tallies, self._is_blind = kept.tallies, kept.is_blind
        elif kept.sequence == self._sequence - 1:  # it was taken, and we died before we noted it
            self._remember(_Past(kept.sequence, self._started_ns, self._suspect(kept.tallies)))

    def _read_past(self) -> list[_Past]:
        fact = self._journal.fact("suspect")
        past = msgspec.msgpack.decode(fact, type=list[_Past]) if fact else []
        since_ns = self._started_ns - self._limits.window_ns
        return [one for one in past if one.taken_ns >= since_ns]

    def _remember(self, one: _Past) -> None:
        if one.tallies:
            self._past = [*self._past, one][-MAX_PAST:]
            self._journal.note("suspect", msgspec.msgpack.encode(self._past))

    def _suspect(self, tallies: Mapping[int, Tally]) -> dict[int, Tally]:
        return {
            number: tally
            for number, tally in tallies.items()
            if tally.is_suspect and number not in self._unjudged
        }

    def _history(self, source: int) -> list[tuple[int, Tally]]:
        return [(one.sequence, one.tallies[source]) for one in self._past if source in one.tallies]

    def _source_of(self, directory: int) -> int:
        found = self._journal.row("SELECT source FROM dirs WHERE id = ?", directory)
        return int(found[0]) if found else 0


def _mark(patterns: Patterns) -> int:
    return zlib.crc32(repr(patterns.lines).encode())
