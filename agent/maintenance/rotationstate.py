"""Which thirtieth of a repository was last read when, remembered in a file of maintenance's own."""

from pathlib import Path

import msgspec

from agent.model.decoding import UNDECODABLE
from agent.notefile import replace_durably

FILE = "rotation.json"  # in the state directory
PARTS = 30
MAX_PARTS = 3  # in one run, to make up for days that were missed
DAY_NS = 24 * 3600 * 10**9


class Part(msgspec.Struct, frozen=True):
    """When a thirtieth was last read, and what was then found and not healed."""

    read_ns: int = 0  # 0: never
    lost: int = 0


class Rotation(msgspec.Struct, frozen=True):
    """What is remembered from run to run."""

    parts: tuple[Part, ...] = (Part(),) * PARTS

    def due(self, now_ns: int) -> list[int]:
        """Return which parts to read now: the oldest, and more where those are overdue."""
        oldest = sorted(range(PARTS), key=lambda number: (self.parts[number].read_ns, number))
        overdue = [
            number
            for number in oldest
            if 0 < self.parts[number].read_ns < now_ns - (PARTS + 1) * DAY_NS
        ]
        return overdue[:MAX_PARTS] or oldest[:1]

    def noted(self, number: int, part: Part) -> "Rotation":
        """Return it with one part read."""
        parts = (*self.parts[:number], part, *self.parts[number + 1 :])
        return Rotation(parts)

    @property
    def is_complete(self) -> bool:
        """Tell whether every part has been read."""
        return all(part.read_ns for part in self.parts)

    @property
    def since_ns(self) -> int:
        """Every byte was read at this time or later; 0 where some never was."""
        return min(part.read_ns for part in self.parts)

    @property
    def lost(self) -> int:
        """How many damaged objects are known that could not be healed."""
        return sum(part.lost for part in self.parts)


def load(path: Path) -> Rotation:
    """Return what is remembered; nothing at first, or where it can no longer be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Rotation)
    except (OSError, *UNDECODABLE):
        return Rotation()  # then everything is read again: that is no loss
    return found if len(found.parts) == PARTS else Rotation()


def save(path: Path, rotation: Rotation) -> None:
    """Remember, durably."""
    replace_durably(path, msgspec.json.encode(rotation))
