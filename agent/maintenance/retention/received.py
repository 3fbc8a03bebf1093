"""When each snapshot came: the receiver's word, within which its writer's is believed.

An agent says when it took a snapshot.  That is believed as far as it can be true: not before the
snapshot before it came, not before the last time anybody looked and it was not there, and not in
the future.  So an owned agent cannot claim times that have good snapshots thinned out (restic
#22057).
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent.errors import ConfigInvalid
from agent.model.decoding import UNDECODABLE
from agent.model.ids import HostId, SnapshotId
from agent.model.snapshot import SnapshotInfo
from agent.notefile import replace_durably


class _Memory(msgspec.Struct):
    """What is on the disk."""

    looked_ns: int = 0
    received: dict[SnapshotId, int] = msgspec.field(default_factory=dict)  # snapshot id → time


class ReceivedTimes:
    """The times of one vault's snapshots, on disk."""

    def __init__(self, path: Path) -> None:
        """Take the file; it need not exist.  Raise ConfigInvalid where it cannot be read."""
        self._path = path
        try:
            self._memory = msgspec.msgpack.decode(path.read_bytes(), type=_Memory)
        except FileNotFoundError:
            self._memory = _Memory()
        except (OSError, *UNDECODABLE) as error:
            raise ConfigInvalid(
                f"{path} cannot be read: without it nobody knows when snapshots came",
                hint="restore the file; or delete it, and the writers' times are believed again",
            ) from error

    @property
    def newest_ns(self) -> int:
        """When the newest snapshot came; 0 where none did."""
        return max(self._memory.received.values(), default=0)

    def update(self, snapshots: Iterable[SnapshotInfo], now_ns: int) -> dict[SnapshotId, int]:
        """Return when each of `snapshots` came; those that are new are noted, durably.

        They are all that live, each chain in order.
        """
        known = self._memory.received
        times: dict[SnapshotId, int] = {}
        last: dict[HostId, int] = {}
        for info in snapshots:
            host = info.snapshot.host
            floor = max(last.get(host, 0), self._memory.looked_ns)
            time = known.get(info.id)
            if time is None:
                time = max(min(max(info.snapshot.taken_ns, floor), now_ns), last.get(host, 0))
            times[info.id] = last[host] = time
        self._memory = _Memory(max(now_ns, self._memory.looked_ns), dict(times))
        self._save()
        return times

    def _save(self) -> None:
        replace_durably(self._path, msgspec.msgpack.encode(self._memory))
