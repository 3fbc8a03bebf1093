"""A vault as the gate keeps it: at rest it can find and verify; it opens only for live sessions."""

import threading
from pathlib import Path

from agent.crypto.secrets import ReaderKeys
from agent.errors import WrongKey
from agent.model.ids import PackId
from agent.model.snapshot import SnapshotInfo
from agent.repository.chain import Chains
from agent.repository.indexcache import IndexCache
from agent.repository.live import live_snapshots
from agent.repository.packkeys import OpeningKeys
from agent.repository.seen import SeenChains
from agent.repository.vaults import enrolled_writers, secrets_by_credential
from agent.store.base import Store


class GateVault:
    """One vault's keys and caches.  Methods block: call them from threads, one at a time each."""

    def __init__(
        self, keys: ReaderKeys, store: Store, cache: Path, credential: bytes, seen: SeenChains
    ) -> None:
        """Take the keys at rest, and the credential that opens the gate's keyslot."""
        self.keys = keys
        self._store = store
        self._credential = credential
        self._seen = seen
        self._index = IndexCache(cache, store, keys.vault, keys.index())
        self._chains: Chains | None = None
        self._writers: frozenset[bytes] = frozenset()
        self._opening: OpeningKeys | None = None
        self._holders = 0
        self._lock = threading.Lock()

    def snapshots(self) -> list[SnapshotInfo]:
        """Return every snapshot, verified and not rolled back, by the time it was taken."""
        with self._lock:
            writers = enrolled_writers(self._store, self.keys.vault, self.keys.authority_key())
            if self._chains is None or frozenset(writers) != self._writers:
                key = self.keys.index()
                self._chains = Chains(self._store, self.keys.vault, key, writers)
                self._writers = frozenset(writers)
            found, removals = live_snapshots(self._store, self.keys, self._chains)
            self._seen.check(self.keys.vault, found, removals)
        return sorted(found, key=lambda info: (info.snapshot.taken_ns, info.snapshot.sequence))

    def index_descriptors(self) -> list[int]:
        """Return open descriptors of the index files as they are now; the caller closes them."""
        with self._lock:
            self._index.refresh()
            return self._index.descriptors()

    def hold(self) -> None:
        """Unwrap the opening keys for one more session; raise WrongKey where no slot opens."""
        with self._lock:
            if self._opening is None:
                self._opening = self._unwrapped()
            self._holders += 1

    def release(self) -> None:
        """One session fewer; the keys go with the last."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._opening = None

    def pack_key(self, pack: PackId, preamble: bytes) -> bytes:
        """Return one pack's key for a live session; refuse a pack of another vault."""
        opening = self._opening
        if opening is None:
            raise WrongKey("no session of this vault is open")
        return opening.pack_key(pack, preamble)

    def _unwrapped(self) -> OpeningKeys:
        return OpeningKeys.of(secrets_by_credential(self._store, self.keys, self._credential))
