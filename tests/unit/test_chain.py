"""Snapshots: signed, chained, bound to their place; what is missing or forged is told."""

from collections.abc import Callable

import msgspec
import pytest

from agent.crypto.naming import object_name
from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.crypto.signing import SigningKey
from agent.errors import ChainBroken, ObjectDamaged, RepositoryError, RepositoryTooNew
from agent.model.ids import HostId, VaultId
from agent.model.snapshot import NO_PREVIOUS, Snapshot, SnapshotInfo, SourceState, Trigger
from agent.repository import chain, layout, signedbox
from agent.repository.chain import (
    Chains,
    check_signature,
    decode_snapshot,
    encode_snapshot,
    find_tip,
)
from agent.repository.vaults import enrolled_writers
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.stores import LyingStore
from tests.fakes.vaults import make_vault, make_writer, snapshots


def _snapshot(keys: WriterKeys, sequence: int, previous: bytes) -> Snapshot:
    return Snapshot(
        vault=keys.vault,
        host=keys.host(),
        sequence=sequence,
        previous=previous,
        root=b"r" * 32,
        started_ns=10,
        taken_ns=20 + sequence,
        files=3,
        bytes=4,
        trigger=Trigger.REQUEST,
        incomplete=(SourceState("ab" * 8, unreadable=2),),
    )


def _put(store: Store, keys: WriterKeys, snapshot: Snapshot) -> bytes:
    data = encode_snapshot(snapshot, keys.index(), keys.signer())
    store.put(layout.snapshot(keys.vault, keys.host(), snapshot.sequence), [data])
    return data


def _chain(store: Store, keys: WriterKeys, length: int) -> list[SnapshotInfo]:
    """Commit a whole chain; return it as read back one by one."""
    infos: list[SnapshotInfo] = []
    previous: bytes = NO_PREVIOUS
    for sequence in range(1, length + 1):
        data = _put(store, keys, _snapshot(keys, sequence, previous))
        info = _decoded(keys, data, sequence)
        infos.append(info)
        previous = info.id
    return infos


def _decoded(keys: WriterKeys, data: bytes, sequence: int) -> SnapshotInfo:
    verify = keys.signer().verify_key()
    return decode_snapshot(data, keys.index(), verify, keys.vault, keys.host(), sequence)


@pytest.fixture
def store() -> MemoryStore:
    """Return an empty store."""
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> tuple[VaultSecrets, WriterKeys]:
    """Return a vault with one writer."""
    made = make_vault(store)
    return made[0], made[1]


Vault = tuple[VaultSecrets, WriterKeys]


def test_a_chain_reads_back_as_it_was_written(store: MemoryStore, vault: Vault) -> None:
    """Every field, in order."""
    secrets, keys = vault
    infos = _chain(store, keys, 4)
    assert snapshots(store, secrets) == infos
    assert infos[0].snapshot == _snapshot(keys, 1, NO_PREVIOUS)


def test_each_host_has_a_chain_of_its_own(store: MemoryStore, vault: Vault) -> None:
    """Any number of agents write at once."""
    secrets, keys = vault
    other = make_writer(store, secrets, "other")
    expected = _chain(store, keys, 2) + _chain(store, other, 3)
    found = snapshots(store, secrets)
    assert sorted(info.id for info in found) == sorted(info.id for info in expected)


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_missing_snapshot_is_told_by_name(
    store: MemoryStore, vault: Vault, sequence: int
) -> None:
    """From the middle and from the beginning: only a removal record may thin a chain."""
    secrets, keys = vault
    _chain(store, keys, 4)
    name = layout.snapshot(keys.vault, keys.host(), sequence)
    store.delete(name)
    with pytest.raises(ChainBroken, match=name):
        snapshots(store, secrets)


def test_a_cut_end_is_not_seen_by_who_never_saw_it(store: MemoryStore, vault: Vault) -> None:
    """Rollback is noticed by memory alone (docs/threat-model.md): the gate keeps the ends."""
    secrets, keys = vault
    infos = _chain(store, keys, 3)
    store.delete(layout.snapshot(keys.vault, keys.host(), 3))
    assert snapshots(store, secrets) == infos[:2]
    # and a later one at that place has another id, which is what the gate compares
    other = msgspec.structs.replace(infos[2].snapshot, taken_ns=99)
    _put(store, keys, other)
    assert snapshots(store, secrets)[-1].id != infos[2].id


def test_a_wrong_link_is_told(store: MemoryStore, vault: Vault) -> None:
    """Signed by the right host, but after another history."""
    secrets, keys = vault
    _chain(store, keys, 1)
    _put(store, keys, _snapshot(keys, 2, b"x" * 32))
    with pytest.raises(ChainBroken, match="does not follow"):
        snapshots(store, secrets)


def test_a_first_snapshot_with_a_past_is_told(store: MemoryStore, vault: Vault) -> None:
    """Nothing comes before the first."""
    secrets, keys = vault
    _put(store, keys, _snapshot(keys, 1, b"x" * 32))
    with pytest.raises(ChainBroken, match="does not follow"):
        snapshots(store, secrets)


def test_a_sequence_of_zero_is_no_beginning(store: MemoryStore, vault: Vault) -> None:
    """Sequences count from 1."""
    secrets, keys = vault
    _put(store, keys, _snapshot(keys, 0, NO_PREVIOUS))
    with pytest.raises(ChainBroken):
        snapshots(store, secrets)


def test_a_writer_who_was_never_enrolled_is_refused(store: MemoryStore, vault: Vault) -> None:
    """The authority's signature decides who may write."""
    secrets, _ = vault
    foreign = secrets.writer(SigningKey.generate().raw)
    _chain(store, foreign, 1)
    with pytest.raises(ChainBroken, match="never enrolled"):
        snapshots(store, secrets)


def test_two_snapshots_that_changed_places_are_damage(store: MemoryStore, vault: Vault) -> None:
    """Sequence is bound into signature and seal."""
    secrets, keys = vault
    _chain(store, keys, 3)
    names = [layout.snapshot(keys.vault, keys.host(), n) for n in (2, 3)]
    swap = dict(zip(names, [store.get(name) for name in reversed(names)], strict=True))
    for name, data in swap.items():
        store.delete(name)
        store.put(name, [data])
    with pytest.raises(ObjectDamaged, match="not signed by its writer"):
        snapshots(store, secrets)


def test_moving_a_snapshot_to_another_host_or_vault_is_damage(
    store: MemoryStore, vault: Vault
) -> None:
    """Even with the same signing key behind both."""
    _, keys = vault
    data = _put(store, keys, _snapshot(keys, 1, NO_PREVIOUS))
    verify = keys.signer().verify_key()
    for there in (
        (VaultId(b"w" * 16), keys.host(), 1),
        (keys.vault, HostId(b"h" * 16), 1),
        (keys.vault, keys.host(), 2),
    ):
        with pytest.raises(ObjectDamaged):
            check_signature(data, verify, *there)
    check_signature(data, verify, keys.vault, keys.host(), 1)


def test_a_body_that_belongs_elsewhere_is_damage(vault: Vault) -> None:
    """An owned agent may sign a lie about the place: box and body must agree."""
    _, keys = vault
    key, signer = keys.index(), keys.signer()
    place = chain._place(keys.vault, keys.host(), 1)
    lie = msgspec.msgpack.encode(_snapshot(keys, 7, NO_PREVIOUS))
    with pytest.raises(ObjectDamaged, match="somewhere else"):
        _decoded(keys, signedbox.seal(chain.FORM, place, lie, key, signer), 1)


@pytest.mark.parametrize(
    "plain", [b"", b"\xc1", b"\x81\xa1z" + b"\x91" * 100_000 + b"\xc0", b"\x81\xa5vault\xa1x"]
)
def test_a_signed_body_that_does_not_decode_is_damage(vault: Vault, plain: bytes) -> None:
    """An owned agent signs anything; nothing but our errors comes of it."""
    _, keys = vault
    place = chain._place(keys.vault, keys.host(), 1)
    signed = signedbox.seal(chain.FORM, place, plain, keys.index(), keys.signer())
    with pytest.raises(ObjectDamaged):
        _decoded(keys, signed, 1)


def test_every_flip_and_every_truncation_is_a_named_error(vault: Vault) -> None:
    """Head, box and signature: nothing may change unnoticed."""
    _, keys = vault
    data = encode_snapshot(_snapshot(keys, 1, NO_PREVIOUS), keys.index(), keys.signer())
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1
        for hostile in (bytes(flipped), data[:position]):
            with pytest.raises(RepositoryError):
                _decoded(keys, hostile, 1)


def test_a_later_version_or_an_unknown_feature_is_too_new(vault: Vault) -> None:
    """Refused, and the program to get is the next step."""
    _, keys = vault
    data = bytearray(encode_snapshot(_snapshot(keys, 1, NO_PREVIOUS), keys.index(), keys.signer()))
    data[8] = 2
    with pytest.raises(RepositoryTooNew):
        _decoded(keys, bytes(data), 1)
    featured = msgspec.structs.replace(_snapshot(keys, 1, NO_PREVIOUS), features=("thinned",))
    with pytest.raises(RepositoryTooNew, match="thinned"):
        _decoded(keys, encode_snapshot(featured, keys.index(), keys.signer()), 1)


def test_strays_among_the_snapshots_mean_nothing(store: MemoryStore, vault: Vault) -> None:
    """Other spellings of a number are no second snapshot by that number."""
    secrets, keys = vault
    infos = _chain(store, keys, 2)
    host = layout.host_snapshots(keys.vault, keys.host())
    for stray in ("2", "00000000000000002", "readme.txt", "000000000000000g", "deep/2"):
        store.put(host + stray, [b"x"])
    assert snapshots(store, secrets) == infos
    assert find_tip(store, keys.vault, keys.host(), keys.signer().verify_key()) == (2, infos[1].id)


def test_the_tip_of_an_empty_chain_is_nothing(store: MemoryStore, vault: Vault) -> None:
    """A first snapshot follows zeros."""
    _, keys = vault
    verify = keys.signer().verify_key()
    assert find_tip(store, keys.vault, keys.host(), verify) == (0, NO_PREVIOUS)


def test_a_snapshot_is_fetched_and_verified_once(store: MemoryStore, vault: Vault) -> None:
    """Ten thousand snapshots are not opened again at every look; a missing one still shows."""
    secrets, keys = vault
    _chain(store, keys, 3)
    fetched: list[str] = []

    def count(name: str, data: bytes) -> bytes:
        fetched.append(name)
        return data

    lying = LyingStore(store, count)
    writers = enrolled_writers(store, keys.vault, secrets.reader().authority_key())
    chains = Chains(lying, keys.vault, keys.index(), writers)
    assert len(list(chains.snapshots())) == 3
    fetched.clear()
    assert len(list(chains.snapshots())) == 3
    assert fetched == []
    store.delete(layout.snapshot(keys.vault, keys.host(), 2))
    with pytest.raises(ChainBroken):
        list(chains.snapshots())


@pytest.mark.parametrize("make", [lambda data: data * 5000, lambda data: b""])
def test_an_object_of_absurd_size_is_refused(
    store: MemoryStore, vault: Vault, make: Callable[[bytes], bytes]
) -> None:
    """A snapshot has kilobytes: a hostile store does not fill our memory."""
    secrets, keys = vault
    _chain(store, keys, 1)
    writers = enrolled_writers(store, keys.vault, secrets.reader().authority_key())
    lying = LyingStore(store, lambda _, data: make(data))
    with pytest.raises(ObjectDamaged):
        Chains(lying, keys.vault, keys.index(), writers).read(keys.host(), 1)


def test_a_snapshots_id_is_the_digest_of_its_object(store: MemoryStore, vault: Vault) -> None:
    """So a link covers signature and seal."""
    _, keys = vault
    (info,) = _chain(store, keys, 1)
    data = store.get(layout.snapshot(keys.vault, keys.host(), 1))
    assert info.id == object_name(data)
    assert info.stored_bytes == len(data)
