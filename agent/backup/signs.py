"""Signs of an attack: rules over counts of what happened to a source's files (docs/ransomware.md).

Pure functions.  Entropy is not looked at: compressed pixels are as random as what is encrypted.
What counts is what a PACS never does: images that are none any more, many files that get the same
new suffix and other content, and much that had been at rest for long changed or gone at once.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from agent.model.snapshot import Changes, Sign

DAY_NS: Final = 86_400 * 10**9


class SignKind(enum.StrEnum):
    """What is a sign.  Words are kept for ever: snapshots and audits hold them."""

    LOST_DICOM = "lost-dicom"  # was an image, is none
    BROKEN_DICOM = "broken-dicom"  # an image whose header could be read, and cannot any more
    SUFFIX_BURST = "suffix-burst"  # other content under the old name and one new suffix
    MASS_CHANGE = "mass-change"  # other content in files that were at rest
    MASS_DELETION = "mass-deletion"  # files that were at rest are gone
    CANARY = "canary"  # a file that nobody has reason to touch


class Limits(NamedTuple):
    """From when on it is a sign, within a window of time."""

    lost_dicom: int = 5
    broken_dicom: int = 5
    suffix_burst: int = 20
    share: float = 0.2  # of the source's files, changed or removed,
    files: int = 100  # and at least so many,
    studies: int = 5  # and, where they are images, of so many studies
    at_rest_ns: int = 8 * DAY_NS  # longer than a week: what a weekly job rewrites is not at rest
    window_ns: int = 3600 * 10**9


DEFAULT_LIMITS: Final = Limits()


class AtRest(msgspec.Struct, array_like=True):
    """Files whose last version had been at rest."""

    images: int = 0
    others: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.images + self.others


class Tally(msgspec.Struct, array_like=True):
    """What happened to the files of one source from one snapshot to the next."""

    files: int = 0  # that the source had before
    added: int = 0
    changed: int = 0
    removed: int = 0
    moved: int = 0
    added_bytes: int = 0
    changed_bytes: int = 0
    removed_bytes: int = 0
    at_rest_changed: AtRest = msgspec.field(default_factory=AtRest)
    at_rest_removed: AtRest = msgspec.field(default_factory=AtRest)
    lost: int = 0
    broken: int = 0
    suffixes: dict[bytes, int] = msgspec.field(default_factory=dict)  # by digest, never the text
    studies: set[int] = msgspec.field(default_factory=set)  # of images at rest; digests; bounded

    @property
    def is_suspect(self) -> bool:
        """Tell whether any of it may add up to a sign."""
        return bool(
            self.lost
            or self.broken
            or self.suffixes
            or self.at_rest_changed.total
            or self.at_rest_removed.total
        )


History = Sequence[tuple[int, Tally]]
"""Sequence and tally of a source's snapshots within the window, the one being taken last."""

_Count = Callable[[Tally], int]


def judge(history: History, limits: Limits) -> list[Sign]:
    """Return the signs that a source shows, of which the last tally holds something."""
    found = []
    for kind, count in _counts(history):
        if not count(history[-1][1]):
            continue
        total = sum(count(tally) for _, tally in history)
        if _is_sign(kind, total, history, limits):
            since = next(sequence for sequence, tally in history if count(tally))
            found.append(Sign(kind.value, total, _files(history), since))
    return found


def together(signs: Iterable[Sign]) -> tuple[Sign, ...]:
    """Return one sign a kind, of all sources."""
    found: dict[str, Sign] = {}
    for sign in signs:
        known = found.get(sign.kind)
        if known is not None:
            sign = Sign(  # noqa: PLW2901 - the two become one
                sign.kind,
                known.count + sign.count,
                known.of + sign.of,
                min(known.since, sign.since),
            )
        found[sign.kind] = sign
    return tuple(found.values())


def changes(tallies: Iterable[Tally]) -> Changes:
    """Return what happened to all sources."""
    counted = [
        (t.added, t.changed, t.removed, t.moved, t.added_bytes, t.changed_bytes, t.removed_bytes)
        for t in tallies
    ]
    return Changes(*map(sum, zip(*counted, strict=True))) if counted else Changes()


def _counts(history: History) -> Iterator[tuple[SignKind, _Count]]:
    yield SignKind.LOST_DICOM, lambda tally: tally.lost
    yield SignKind.BROKEN_DICOM, lambda tally: tally.broken
    suffix = _commonest(history)
    yield SignKind.SUFFIX_BURST, lambda tally: tally.suffixes.get(suffix, 0)
    yield SignKind.MASS_CHANGE, lambda tally: tally.at_rest_changed.total
    yield SignKind.MASS_DELETION, lambda tally: tally.at_rest_removed.total


def _commonest(history: History) -> bytes:
    """Return that suffix of the last tally that most files got within the window."""
    return max(
        history[-1][1].suffixes,
        key=lambda suffix: sum(tally.suffixes.get(suffix, 0) for _, tally in history),
        default=b"",
    )


def _is_sign(kind: SignKind, total: int, history: History, limits: Limits) -> bool:
    match kind:
        case SignKind.LOST_DICOM:
            return total >= limits.lost_dicom
        case SignKind.BROKEN_DICOM:
            return total >= limits.broken_dicom
        case SignKind.SUFFIX_BURST:
            return total >= limits.suffix_burst
        case SignKind.MASS_CHANGE:
            images = sum(tally.at_rest_changed.images for _, tally in history)
        case _:
            images = sum(tally.at_rest_removed.images for _, tally in history)
    return _is_mass(total, images, history, limits)


def _is_mass(total: int, images: int, history: History, limits: Limits) -> bool:
    """Tell whether it is much of the source, and not what is done to a single study.

    A PACS that merges or anonymises one study of thousands of images writes it anew, with what it
    keeps beside each image, and in a small archive that is much of it.
    """
    if total < limits.files or total < limits.share * _files(history):
        return False
    studies = set[int]().union(*(tally.studies for _, tally in history))
    return images * 3 < total or len(studies) >= limits.studies


def _files(history: History) -> int:
    return max(tally.files for _, tally in history)
