"""Whether the snapshots of a vault are all there, each its writer's, each after the one before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from agent.crypto.box import IndexKey
from agent.crypto.signing import VerifyKey
from agent.errors import ChainBroken
from agent.model.ids import HostId, VaultId
from agent.model.snapshot import FIRST_SEQUENCE, NO_PREVIOUS
from agent.repository import layout
from agent.repository.chain import check_signature, decode_snapshot
from agent.repository.fetch import get_bounded
from agent.repository.findings import FROM_A_COPY, Findings
from agent.repository.removals import NO_REMOVALS, Removals
from agent.store.base import Store

_KEYS_TELL = "perhaps retention removed it; only the vault's keys can tell: verify with them"
MAX_MISSING = 100  # of one gap that are named one by one

Roots = dict[bytes, str]
"""A snapshot's root → the name of the first snapshot that has it."""


def check_chains(
    store: Store,
    vault: VaultId,
    sequences: Mapping[HostId, Sequence[int]],
    writers: Mapping[HostId, VerifyKey],
    key: IndexKey | None,
    findings: Findings,
    removals: Removals = NO_REMOVALS,
) -> Roots:
    """Check every snapshot of a vault; with its index key links too.  Return the roots found.

    What `removals` name does not exist, and its links lead over the gap.
    """
    roots: Roots = {}
    advice = FROM_A_COPY if key or not _has_removals(store, vault) else _KEYS_TELL
    for host in sorted({*sequences, *(of for of, _ in removals.removed)}):
        present = [n for n in sorted(sequences.get(host, ())) if (host, n) not in removals.removed]
        chain = _Chain(store, vault, host, writers.get(host), key, removals)
        for missing in chain.missing(present):
            findings.add(missing, f"{missing} is missing from its chain", advice)
        for sequence in present:
            findings.count("snapshots")
            name = layout.snapshot(vault, host, sequence)
            findings.guard(name, partial(chain.check, sequence, roots))
    return roots


@dataclass(slots=True)
class _Chain:
    """The snapshots of one writer, looked at in order."""

    store: Store
    vault: VaultId
    host: HostId
    verify: VerifyKey | None
    key: IndexKey | None
    removals: Removals
    last_sequence: int = FIRST_SEQUENCE - 1
    last_id: bytes = NO_PREVIOUS

    def missing(self, present: Sequence[int]) -> Iterator[str]:
        """Yield the names of snapshots that should be between those that are."""
        removed = {number for of, number in self.removals.removed if of == self.host}
        # the newest is never removed: behind the last that was, one has to be
        ends = (
            [*present, max(removed) + 2]
            if removed and max(removed) > max(present, default=0)
            else present
        )
        expected = FIRST_SEQUENCE
        for sequence in ends:
            gap = (n for n in range(expected, sequence) if n not in removed)
            for gone in islice(gap, MAX_MISSING):
                yield layout.snapshot(self.vault, self.host, gone)
            expected = sequence + 1

    def check(self, sequence: int, roots: Roots) -> None:
        """Raise what is wrong with one snapshot."""
        name = layout.snapshot(self.vault, self.host, sequence)
        if self.verify is None:
            raise ChainBroken(f"{name} is by a writer that is not enrolled, or no longer readably")
        data = get_bounded(self.store, name)
        if self.key is None:
            check_signature(data, self.verify, self.vault, self.host, sequence)
            return
        info = decode_snapshot(data, self.key, self.verify, self.vault, self.host, sequence)
        self._skip_removed(sequence)
        follows = sequence != self.last_sequence + 1 or info.snapshot.previous == self.last_id
        self.last_sequence, self.last_id = sequence, info.id
        if info.snapshot.root:
            roots.setdefault(info.snapshot.root, name)
        if not follows:
            raise ChainBroken(f"{name} does not follow the snapshot before it")

    def _skip_removed(self, sequence: int) -> None:
        """Follow the links of removed snapshots up to the one before `sequence`."""
        while (gone := self.removals.removed.get((self.host, self.last_sequence + 1))) is not None:
            if gone.sequence >= sequence or gone.previous != self.last_id:
                return
            self.last_sequence, self.last_id = gone.sequence, gone.id


def _has_removals(store: Store, vault: VaultId) -> bool:
    return any(True for _ in store.list(layout.removals(vault)))
