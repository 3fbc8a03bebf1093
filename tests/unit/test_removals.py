"""A chain that retention has thinned still verifies; one that was thinned otherwise does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.crypto.secrets import VaultSecrets
from agent.crypto.signing import SigningKey
from agent.errors import ChainBroken, ObjectDamaged, RepositoryError
from agent.gate.vaults import GateVault
from agent.model.snapshot import SnapshotInfo
from agent.repository import layout
from agent.repository.removals import (
    MAX_REMOVED,
    RemovalRecord,
    Removed,
    decode_record,
    encode_record,
    read_removals,
)
from agent.repository.seen import SeenChains
from agent.repository.verify import verify
from agent.store.base import Listed
from agent.store.memory import MemoryStore
from tests.fakes.removing import make_chain, remove
from tests.fakes.vaults import make_vault, snapshots

LENGTH = 7


class Thinned:
    """A vault with a chain of LENGTH snapshots in a store of its own."""

    def __init__(self) -> None:
        """Make it."""
        self.store = MemoryStore()
        self.vault = make_vault(self.store)
        self.secrets: VaultSecrets = self.vault.secrets
        self.chain: list[SnapshotInfo] = make_chain(self.store, self.vault.writer, LENGTH)

    def left(self) -> list[int]:
        """Return the sequences of the snapshots that are left, the chain verified."""
        return [info.snapshot.sequence for info in snapshots(self.store, self.secrets)]

    def clean(self) -> bool:
        """Tell whether a verification with keys finds the chain whole."""
        keys = {self.secrets.vault: self.secrets.reader()}
        report = verify(self.store, keys=keys, on_progress=lambda *_: None)
        return report.is_clean


@given(st.lists(st.sets(st.integers(1, LENGTH - 1)), max_size=4), st.booleans())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_was_removed_by_the_book_the_rest_verifies(
    steps: list[set[int]], delete: bool
) -> None:
    """In any order and number of records, with the objects deleted or still there."""
    thinned = Thinned()
    gone: set[int] = set()
    for step in steps:
        fresh = sorted(step - gone)
        remove(thinned.store, thinned.secrets, [thinned.chain[n - 1] for n in fresh], delete=delete)
        gone |= step
    assert thinned.left() == [n for n in range(1, LENGTH + 1) if n not in gone]
    assert thinned.clean()


@given(st.integers(1, LENGTH - 1), st.integers(1, LENGTH - 1))
@settings(deadline=None, max_examples=20)
def test_what_no_record_names_must_be_there(removed: int, withheld: int) -> None:
    """A hole beside a removal is a hole."""
    thinned = Thinned()
    remove(thinned.store, thinned.secrets, [thinned.chain[removed - 1]])
    host = thinned.vault.writer.host()
    thinned.store.delete(layout.snapshot(thinned.secrets.vault, host, withheld))
    if withheld == removed:
        assert len(thinned.left()) == LENGTH - 1
        return
    with pytest.raises(ChainBroken, match="missing"):
        thinned.left()
    assert not thinned.clean()


def test_the_newest_is_never_removed_so_one_must_follow() -> None:
    """A storage that withholds the end of a thinned chain is found out by the record."""
    thinned = Thinned()
    remove(thinned.store, thinned.secrets, thinned.chain[:-1])
    assert thinned.left() == [LENGTH]
    host = thinned.vault.writer.host()
    thinned.store.delete(layout.snapshot(thinned.secrets.vault, host, LENGTH))
    with pytest.raises(ChainBroken, match="missing"):
        thinned.left()
    assert not thinned.clean()


def test_a_record_that_was_taken_away_is_missed() -> None:
    """In the middle of the records, or the only one: the gap is then not explained."""
    thinned = Thinned()
    for number in (2, 3, 4):
        remove(thinned.store, thinned.secrets, [thinned.chain[number - 1]])
    thinned.store.delete(layout.removal(thinned.secrets.vault, 2))
    with pytest.raises(ChainBroken):
        thinned.left()
    thinned.store.delete(layout.removal(thinned.secrets.vault, 3))
    with pytest.raises(ChainBroken):
        thinned.left()


def test_a_host_cannot_remove() -> None:
    """Only the authority signs: an owned agent, which can seal, gets nowhere."""
    thinned = Thinned()
    info = thinned.chain[2]
    gone = Removed(info.snapshot.host, 3, info.id, info.snapshot.previous)
    record = RemovalRecord(thinned.secrets.vault, 1, bytes(32), 0, (gone,))
    forged = encode_record(
        record, thinned.secrets.reader().index(), SigningKey(thinned.vault.writer.signing)
    )
    thinned.store.put(layout.removal(thinned.secrets.vault, 1), [forged])
    with pytest.raises(ObjectDamaged, match="authority"):
        thinned.left()
    assert not thinned.clean()


def test_a_record_moved_to_another_number_or_vault_is_refused() -> None:
    """Signature and seal are bound to the place."""
    thinned = Thinned()
    remove(thinned.store, thinned.secrets, [thinned.chain[1]])
    data = thinned.store.get(layout.removal(thinned.secrets.vault, 1))
    reader = thinned.secrets.reader()
    with pytest.raises(ObjectDamaged):
        decode_record(data, reader.index(), reader.authority_key(), reader.vault, 2)
    other = make_vault(MemoryStore()).secrets.reader()
    with pytest.raises(ObjectDamaged):
        decode_record(data, reader.index(), reader.authority_key(), other.vault, 1)


def test_a_link_over_a_removed_snapshot_must_hold() -> None:
    """A record that names another snapshot than was there does not make the chain whole."""
    thinned = Thinned()
    info = thinned.chain[3]
    gone = Removed(info.snapshot.host, 4, bytes(32), info.snapshot.previous)
    record = RemovalRecord(thinned.secrets.vault, 1, bytes(32), 0, (gone,))
    data = encode_record(
        record, thinned.secrets.reader().index(), SigningKey(thinned.secrets.authority)
    )
    thinned.store.put(layout.removal(thinned.secrets.vault, 1), [data])
    with pytest.raises(ChainBroken, match="follow"):
        thinned.left()
    assert not thinned.clean()


def test_every_flipped_bit_of_a_record_is_found() -> None:
    """No byte of it can be changed unseen."""
    thinned = Thinned()
    remove(thinned.store, thinned.secrets, [thinned.chain[1]])
    data = thinned.store.get(layout.removal(thinned.secrets.vault, 1))
    reader = thinned.secrets.reader()
    for at in range(len(data)):
        if at in {10, 11}:
            continue  # padding of the header, and yet signed: see below
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(RepositoryError):
            decode_record(flipped, reader.index(), reader.authority_key(), reader.vault, 1)
    padded = data[:10] + b"\1" + data[11:]
    with pytest.raises(ObjectDamaged, match="signed"):
        decode_record(padded, reader.index(), reader.authority_key(), reader.vault, 1)


def test_without_keys_a_gap_says_that_keys_would_tell() -> None:
    """A scrub without keys cannot know what retention did."""
    thinned = Thinned()
    remove(thinned.store, thinned.secrets, [thinned.chain[1]])
    report = verify(thinned.store, on_progress=lambda *_: None)
    (found,) = report.findings
    assert "keys" in found.advice


def test_a_gate_that_saw_a_snapshot_accepts_its_removal_and_nothing_less(tmp_path: Path) -> None:
    """What was seen may go by a record; the record itself may not go again."""
    thinned = Thinned()
    seen = SeenChains(tmp_path / "seen.json")
    vault = thinned.secrets.vault
    seen.check(vault, thinned.chain[:3])
    remove(thinned.store, thinned.secrets, thinned.chain[:5])
    removals = read_removals(thinned.store, thinned.secrets.reader())
    seen.check(vault, snapshots(thinned.store, thinned.secrets), removals)

    again = SeenChains(tmp_path / "seen.json")
    with pytest.raises(ChainBroken, match="removal record 1"):
        again.check(vault, thinned.chain)


class _Thinning(MemoryStore):
    """Retention at work beside a reader: before each of some listings it removes a snapshot."""

    def __init__(self, thinned: Thinned, times: int) -> None:
        super().__init__()
        self._thinned = thinned
        self._waiting = thinned.chain[:times]

    def list(self, prefix: str) -> Iterator[Listed]:
        if self._waiting and prefix.startswith("snapshots/"):
            remove(self._thinned.store, self._thinned.secrets, [self._waiting.pop(0)])
        return self._thinned.store.list(prefix)

    def get(self, name: str) -> bytes:
        return self._thinned.store.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self._thinned.store.get_range(name, offset, length)

    def size(self, name: str) -> int:
        return self._thinned.store.size(name)


@pytest.mark.parametrize("times", [1, 3])
def test_a_reader_beside_retention_finds_no_hole(tmp_path: Path, times: int) -> None:
    """What goes between reading the records and listing snapshots is looked at again."""
    thinned = Thinned()
    store, reader = _Thinning(thinned, times), thinned.secrets.reader()
    seen = SeenChains(tmp_path / "seen.json")
    gate = GateVault(reader, store, tmp_path / "index", b"", seen)
    found = [info.snapshot.sequence for info in gate.snapshots()]
    assert found == list(range(times + 1, LENGTH + 1))


def test_a_record_holds_a_bounded_number() -> None:
    """More are written as several records: a small object stays small."""
    thinned = Thinned()
    info = thinned.chain[0]
    gone = Removed(info.snapshot.host, 1, info.id, info.snapshot.previous)
    record = RemovalRecord(thinned.secrets.vault, 1, bytes(32), 0, (gone,) * (MAX_REMOVED + 1))
    with pytest.raises(ValueError, match="more than"):
        encode_record(record, thinned.secrets.reader().index(), SigningKey.generate())
