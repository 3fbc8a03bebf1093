"""One object healed: from its parity, else from a copy of the repository; parity made again.

Nothing is put in an object's place but what its name, its own hashes or its writer's signature
proves to be it.
"""

import enum
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import RepositoryError, StoreUnavailable
from agent.maintenance.parity import make
from agent.maintenance.writeback import finish_interrupted, replace
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.genuine import Genuine
from agent.repository.indexcache import MAX_INDEX_BYTES
from agent.repository.parityobjects import healed
from agent.store.base import Store


class How(enum.Enum):
    """What became of an object."""

    SOUND = "nothing was wrong with its bytes"
    PARITY = "healed from its parity"
    COPY = "brought back from a copy of the repository"
    AGAIN = "made again: parity"
    NOT = "lost"


@dataclass(frozen=True, slots=True)
class Healer:
    """Heals objects of one repository."""

    store: Store
    genuine: Genuine
    copy: Store | None = None

    def finish(self) -> int:
        """End what an interrupted run has begun; comes before everything else."""
        return finish_interrupted(self.store, self.genuine)

    def heal_all(self, names: Iterable[str]) -> dict[str, How]:
        """Heal these objects; what is none of ours is passed over."""
        ours = {name for name in names if is_ours(name)}
        return {name: self.heal(name) for name in sorted(ours, key=_order)}

    def heal(self, name: str) -> How:
        """Heal one object of ours."""
        target = layout.parity_target(name)
        if target is not None:
            return self._again(name, target)
        proven = healed(self.store, name)
        there = _read(self.store, name)
        if proven is not None and self.genuine.passes(name, proven):
            if there == proven:
                return How.SOUND
            replace(self.store, name, [proven])
            return How.PARITY
        if self.genuine.passes(name, there):
            return How.SOUND
        fetched = _read(self.copy, name) if self.copy is not None else b""
        if not self.genuine.passes(name, fetched):
            return How.NOT
        replace(self.store, name, [fetched])
        return How.COPY

    def _again(self, name: str, target: str) -> How:
        """Make an object's parity again; of one that is gone, parity is all that is left."""
        with suppress(RepositoryError, StoreUnavailable):
            make(self.store, self.genuine, target)
            return How.AGAIN
        fetched = _read(self.copy, name) if self.copy is not None else b""
        if not self.genuine.passes(name, fetched):
            return How.NOT
        replace(self.store, name, [fetched])
        return How.COPY


def is_ours(name: str) -> bool:
    """Tell whether an object of the repository's goes by this name."""
    return (
        name == layout.REPOSITORY
        or layout.parity_of(name) is not None
        or layout.parity_target(name) is not None
        or layout.index_id(name) is not None
        or layout.slot_vault(name) is not None
    )


def _order(name: str) -> tuple[bool, bool, str]:
    """Sort enrolments first, for snapshots are checked with them, and parity last."""
    return layout.parity_target(name) is not None, not layout.is_writer(name), name


def _read(store: Store, name: str) -> bytes:
    """Return an object as it is, or nothing where it cannot be read."""
    with suppress(RepositoryError, StoreUnavailable):
        return get_bounded(store, name, MAX_INDEX_BYTES)
    return b""
