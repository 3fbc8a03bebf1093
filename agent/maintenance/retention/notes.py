"""What retention of a vault remembers between runs: holds it has seen, signs somebody looked at."""

from pathlib import Path

import msgspec

from agent.errors import ConfigInvalid
from agent.model.decoding import UNDECODABLE
from agent.notefile import replace_durably


class Notes(msgspec.Struct, frozen=True):
    """What is on the disk."""

    holds: frozenset[bytes] = frozenset()  # names of holds that were seen, and not released since
    acknowledged: frozenset[bytes] = frozenset()  # ids of snapshots whose signs are known
    thawed_ns: int = 0  # when somebody last looked; 0: never


class NotesFile:
    """The notes of one vault, each change of them whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Take the file; it need not exist."""
        self._path = path

    def read(self) -> Notes:
        """Return them; raise ConfigInvalid where they cannot be read."""
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=Notes)
        except FileNotFoundError:
            return Notes()
        except (OSError, *UNDECODABLE) as error:
            raise ConfigInvalid(
                f"{self._path} cannot be read: without it a hold that vanishes goes unnoticed",
                hint="restore the file; or delete it knowingly, and look at `vitrine hold list`",
            ) from error

    def save(self, notes: Notes) -> None:
        """Replace them, durably."""
        replace_durably(self._path, msgspec.msgpack.encode(notes))

    def add_hold(self, name: bytes) -> None:
        """Remember a hold from its first moment on, so that it cannot vanish before a run."""
        known = self.read()
        self.save(msgspec.structs.replace(known, holds=known.holds | {name}))
