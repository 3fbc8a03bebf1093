"""Everything back with the repository and the passphrase alone: no gate, no agent, no state.

Works with what is left: an index that is damaged or gone is read again from the packs, a file
whose pack is damaged is reported, and the rest is restored.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clock
from agent.crypto.secrets import VaultSecrets
from agent.errors import ChainBroken, RepositoryError
from agent.model.ids import VaultId
from agent.model.snapshot import SnapshotInfo
from agent.repository import choose, layout, vaults
from agent.repository.chain import Chains
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.live import live_snapshots
from agent.repository.packkeys import OpeningKeys
from agent.repository.reader import VaultReader
from agent.repository.rebuild import rebuild_index
from agent.restore.plan import select
from agent.restore.processes import how_many
from agent.restore.run import Progress, restore
from agent.restore.tally import Outcome
from agent.restore.target import closing_target
from agent.store.base import Store

MiB = 1024 * 1024
CACHE_BYTES = 8 * MiB  # of frames, in each process: those that files share, and of the tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be recovered."""

    vault: str
    snapshot: str = ""  # the beginning of its id; empty: the newest
    paths: tuple[bytes, ...] = ()  # relative to the snapshot's root; none: everything


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was recovered, and what whoever recovers should know."""

    snapshot: SnapshotInfo
    outcome: Outcome
    rebuilt_packs: int  # how many packs no index listed: more than 0 means that one was lost
    damaged_packs: tuple[str, ...]  # of these, those whose table cannot be read
    others: tuple[SnapshotInfo, ...]  # the newest of each other host, which this does not cover


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovers from one repository."""

    store: Store
    clock: Clock
    on_progress: Progress
    stopped: Callable[[], bool] = lambda: False

    def recover(self, wanted: Wanted, passphrase: str, target: str) -> Recovered:
        """Restore into the directory `target`, made if missing; what exists is never replaced.

        Raises WrongKey or NotFound for a passphrase or name that opens nothing, NoSuchSnapshot,
        NameAmbiguous, ChainBroken, RestoreRefused for the target.  Files that failed are counted
        in the outcome, whose `check` raises for them.
        """
        vaults.open_repository(self.store)
        secrets = vaults.secrets_by_passphrase(self.store, wanted.vault, passphrase)
        known = self._snapshots(secrets, explicit=bool(wanted.snapshot))
        if wanted.snapshot:
            chosen = choose.by_prefix(known, wanted.snapshot, choose.name_of)
        else:
            chosen = choose.newest(known)
        damaged: list[str] = []
        with tempfile.TemporaryDirectory(prefix="vitrine-index-") as scratch:
            reader, rebuilt = self._reader(secrets, Path(scratch), damaged)
            selection = select(reader, chosen.snapshot.root, wanted.paths)
            with closing_target(target) as descriptor:
                outcome = restore(
                    selection,
                    reader,
                    descriptor,
                    clock=self.clock,
                    stopped=self.stopped,
                    on_progress=self.on_progress,
                    processes=how_many(),
                )
        return Recovered(chosen, outcome, rebuilt, tuple(damaged), choose.others(known, chosen))

    def _snapshots(self, secrets: VaultSecrets, *, explicit: bool) -> Sequence[SnapshotInfo]:
        """Return the snapshots whose chain is whole; each that is sound by itself if `explicit`.

        The newest of a chain with a hole may not be the newest there was, so nobody gets it
        without having named it.
        """
        keys = secrets.reader()
        writers = vaults.enrolled_writers(self.store, keys.vault, keys.authority_key())
        chains = Chains(self.store, keys.vault, keys.index(), writers)
        try:
            return live_snapshots(self.store, keys, chains)[0]
        except RepositoryError as error:
            if not explicit:
                raise ChainBroken(
                    f"which snapshot is the newest cannot be told: {error.message}",
                    hint="bring the object back from a copy, or name a snapshot with --snapshot",
                ) from error
            log.warning("the chain is broken: %s", error.message)
        return list(self._sound(chains, keys.vault))

    def _sound(self, chains: Chains, vault: VaultId) -> Iterator[SnapshotInfo]:
        """Yield each snapshot that its writer signed, whatever became of those around it."""
        for listed in self.store.list(layout.snapshots(vault)):
            place = layout.snapshot_place(listed.name)
            if place is None:
                continue
            try:
                yield chains.read(*place)
            except RepositoryError as error:
                log.warning("%s", error.message)

    def _reader(
        self, secrets: VaultSecrets, scratch: Path, damaged: list[str]
    ) -> tuple[VaultReader, int]:
        keys = secrets.reader()
        cache = IndexCache(scratch, self.store, keys.vault, keys.index())

        def note(name: str, why: str) -> None:
            damaged.append(name)
            log.warning("%s is left out: %s", name, why)

        rebuilt = rebuild_index(self.store, cache, keys.vault, keys.index(), note)
        frames = FrameReader(
            self.store, keys.vault, OpeningKeys.of(secrets), cache_bytes=CACHE_BYTES
        )
        return VaultReader(frames, rebuilt.index, keys.ids()), rebuilt.packs
