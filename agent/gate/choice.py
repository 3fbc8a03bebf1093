"""Which snapshot a person means, among those there are."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from agent.errors import NoSuchSnapshot
from agent.gate.times import Instant, Prefix, When
from agent.repository.choose import Named, by_prefix

_SEE = "see `vitrine snapshots`"


class Choosable(Protocol):
    """What a choice looks at: the id in hexadecimal, and when the snapshot was taken."""

    @property
    def id(self) -> str:
        """The snapshot's id, 64 hexadecimal digits."""
        ...

    @property
    def taken_ns(self) -> int:
        """When it was taken."""
        ...


Snapshot = TypeVar("Snapshot", bound=Choosable)


def choose(when: When, snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshot that `when` means, of those given oldest first.

    Raises NoSuchSnapshot, and NameAmbiguous with the names that a prefix fits.
    """
    if isinstance(when, Prefix):
        return by_prefix(snapshots, when.digits, lambda one: Named(one.id, one.taken_ns))
    if isinstance(when, Instant):
        snapshots = [one for one in snapshots if one.taken_ns <= when.time_ns]
    if not snapshots:
        reason = "there is no snapshot that old" if isinstance(when, Instant) else "no snapshot yet"
        raise NoSuchSnapshot(reason, hint=_SEE)
    return snapshots[-1]
