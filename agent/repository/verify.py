"""Whether everything that should be there is, and is what its name says.

Without keys: names, structures, sizes, keyslots, signatures by the writers' enrolled keys, gaps in
chains; with `read_data` also every pack's, index's and parity piece's BLAKE3.  With a
vault's keys also: who enrolled its writers, the chains' links, that every pack an index lists is
there and holds what is listed, and that the snapshots' roots are.  Whether frames decode only an
opening key could tell; the BLAKE3 tells that they are as they were sealed.

Nothing is changed.  Memory: names of snapshots and ids of packs, no content.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial

from agent.crypto.naming import object_name
from agent.crypto.secrets import ReaderKeys, WriterKeys
from agent.crypto.signing import VerifyKey
from agent.errors import ObjectDamaged
from agent.model.ids import HostId, PackId, VaultId
from agent.repository import layout, vaults
from agent.repository.condemned import newest_record
from agent.repository.fetch import get_bounded
from agent.repository.findings import FROM_A_COPY, Findings, Report
from agent.repository.genuine import Genuine
from agent.repository.indexcache import MAX_INDEX_BYTES
from agent.repository.packtable import check_bytes, check_structure
from agent.repository.parityobjects import check_parity, check_target
from agent.repository.removals import NO_REMOVALS, Removals, removals_of
from agent.repository.verifychain import check_chains
from agent.repository.verifyindex import check_indexes
from agent.store.base import Listed, Store

READERS = 2  # hashing and reading side by side
_QUEUED = 8
_MADE_AGAIN = "no data are lost: `vitrine repair` makes it again from what it is for"
_FINISHED = "run `vitrine repair`, which finishes it"

Keys = Mapping[VaultId, ReaderKeys | WriterKeys]
Progress = Callable[[int, int], None]
"""Hears of (done, total): bytes where data are read, objects where not."""


def verify(
    store: Store, *, keys: Keys | None = None, read_data: bool = False, on_progress: Progress
) -> Report:
    """Check the whole repository; raise only where it is none, or cannot be listed."""
    vaults.open_repository(store)
    run = _Verification(store, keys or {}, Findings(), on_progress, read_data=read_data)
    run.every_object()
    run.every_vault()
    return run.findings.report()


class _Verification:
    """One run."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        findings: Findings,
        on_progress: Progress,
        *,
        read_data: bool,
    ) -> None:
        self._store = store
        self._keys = keys
        readers = {v: one for v, one in keys.items() if isinstance(one, ReaderKeys)}
        self._genuine = Genuine(store, readers)  # agents have no key of the authority's
        self.findings = findings
        self._on_progress = on_progress
        self._read_data = read_data
        self._writers: dict[VaultId, dict[HostId, VerifyKey]] = {}
        self._sequences: dict[VaultId, dict[HostId, list[int]]] = {}
        self._done = self._total = 0

    def every_object(self) -> None:
        """Check each object by itself."""
        self._total = sum(map(self._weight, self._store.list("")))
        queued: dict[Future[None], Listed] = {}
        with ThreadPoolExecutor(READERS, "verify") as readers:
            for listed in self._store.list(""):
                check = self._check(listed)
                if check is None:
                    self._tell(listed)
                    continue
                queued[readers.submit(self._guarded, listed, check)] = listed
                if len(queued) >= _QUEUED:
                    self._reap(queued)
            while queued:
                self._reap(queued)

    def every_vault(self) -> None:
        """Check what only several objects together can tell."""
        for vault in sorted(self._sequences.keys() | self._keys.keys()):
            keys = self._keys.get(vault)
            roots = check_chains(
                self._store,
                vault,
                self._sequences.get(vault, {}),
                self._writers.get(vault, {}),
                keys.index() if keys else None,
                self.findings,
                self._removals(vault, keys),
            )
            if keys:
                self._pack_record(vault, keys)
                check_indexes(self._store, vault, keys.index(), roots, self.findings)

    def _removals(self, vault: VaultId, keys: ReaderKeys | WriterKeys | None) -> Removals:
        """Return what was removed from a vault; nothing where that cannot be told."""
        if keys is None:
            return NO_REMOVALS
        authority = keys.authority_key() if isinstance(keys, ReaderKeys) else None
        found: list[Removals] = []
        self.findings.guard(
            layout.removals(vault),
            lambda: found.append(removals_of(self._store, vault, keys.index(), authority)),
        )
        return found[0] if found else NO_REMOVALS

    def _pack_record(self, vault: VaultId, keys: ReaderKeys | WriterKeys) -> None:
        """Check the record that says which packs are on their way out."""
        authority = keys.authority_key() if isinstance(keys, ReaderKeys) else None
        check = partial(newest_record, self._store, vault, keys.index(), authority)
        self.findings.guard(layout.pack_records(vault), check)

    def _check(self, listed: Listed) -> Callable[[], None] | None:
        """Return how to check an object by itself, or None where that is not done here."""
        name, room = listed.name, listed.name.split("/")[0]
        pack = layout.pack_id(name)
        place = layout.snapshot_place(name)
        if pack is not None:
            self.findings.count("packs")
            return partial(self._pack, pack, listed.size)
        if layout.index_id(name) is not None:
            self.findings.count("indexes")
            return partial(self._index, name) if self._read_data else None
        if place is not None:
            vault = VaultId(bytes.fromhex(name.split("/")[1]))
            self._sequences.setdefault(vault, {}).setdefault(place[0], []).append(place[1])
        elif room == "vaults":
            return partial(self._of_vault, name)
        else:
            return self._other(listed)
        return None

    def _other(self, listed: Listed) -> Callable[[], None] | None:
        """Return how to check parity; note what repairs have left, and what is none of ours."""
        name = listed.name
        if layout.parity_target(name) is not None:
            self.findings.count("parity")
            return partial(self._parity, listed)
        if name.startswith(layout.QUARANTINE):
            self.findings.count("quarantined")
        elif name.startswith(layout.REPAIR):
            self.findings.add(name, f"{name} was left by an interrupted repair", _FINISHED)
        elif name != layout.REPOSITORY:  # which has been opened
            self._unknown(name)
        return None

    def _guarded(self, listed: Listed, check: Callable[[], None]) -> None:
        is_parity = listed.name.startswith(layout.PARITY)
        self.findings.guard(listed.name, check, _MADE_AGAIN if is_parity else FROM_A_COPY)

    def _pack(self, pack: PackId, size: int) -> None:
        if self._read_data:
            self.findings.count("read_bytes", size)
            check_bytes(self._store, pack, size)
        check_structure(self._store, pack, size)

    def _index(self, name: str) -> None:
        data = get_bounded(self._store, name, MAX_INDEX_BYTES)
        self.findings.count("read_bytes", len(data))
        if object_name(data).hex() != name.rsplit("/", 1)[1]:
            raise ObjectDamaged(f"{name} is damaged: its bytes do not match its name")

    def _parity(self, listed: Listed) -> None:
        """Check a parity object, and with it a small object: keyless proof of those is rare."""
        name, target = listed.name, layout.parity_target(listed.name) or ""
        said = check_parity(self._store, name, listed.size, read_data=self._read_data)
        if self._read_data:
            self.findings.count("read_bytes", listed.size)
            if layout.pack_id(target) is None:
                self.findings.guard(target, partial(check_target, self._store, target, said))

    def _of_vault(self, name: str) -> None:
        if layout.slot_vault(name) is not None:
            self.findings.count("slots")
            vaults.read_slot(self._store, name)
        elif layout.removal_number(name) is not None:
            self.findings.count("removals")
            self._genuine.check(name, get_bounded(self._store, name))
        elif layout.hold_name(name) is not None:
            self.findings.count("holds")
            self._genuine.check(name, get_bounded(self._store, name))
        elif layout.pack_record_number(name) is not None:
            self.findings.count("pack_records")
        elif name.split("/")[2:3] == ["writers"]:
            self.findings.count("writers")
            self._enrolment(name)
        else:
            self._unknown(name)

    def _enrolment(self, name: str) -> None:
        enrolment = vaults.read_enrolment(self._store, name)
        keys = self._keys.get(enrolment.vault)
        if isinstance(keys, ReaderKeys):
            vaults.check_enrolment(enrolment, keys.authority_key())
        host = HostId(bytes.fromhex(name.rsplit("/", 1)[1]))
        # each thread its own entries; a setdefault is one step for the interpreter
        self._writers.setdefault(enrolment.vault, {})[host] = VerifyKey(enrolment.public)

    def _unknown(self, name: str) -> None:
        self.findings.add(
            name, f"{name} is no object of ours", "see who put it there; nothing reads it"
        )

    def _weight(self, listed: Listed) -> int:
        return listed.size if self._read_data else 1

    def _tell(self, listed: Listed) -> None:
        self._done += self._weight(listed)
        self._on_progress(self._done, self._total)

    def _reap(self, queued: dict[Future[None], Listed]) -> None:
        done, _ = wait(queued, return_when=FIRST_COMPLETED)
        for future in done:
            listed = queued.pop(future)
            future.result()
            self._tell(listed)
