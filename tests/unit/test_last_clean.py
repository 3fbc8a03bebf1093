"""Which snapshot is the last clean one, of chains with and without signs."""

import msgspec
import pytest

from agent.model.ids import HostId, SnapshotId, VaultId
from agent.model.snapshot import Sign, Snapshot, SnapshotInfo
from agent.repository.signs import began, last_clean, unacknowledged

ONE, TWO = HostId(b"1" * 16), HostId(b"2" * 16)


def snapshot(sequence: int, *signs: Sign, host: HostId = ONE) -> SnapshotInfo:
    """Return a snapshot; its id says which."""
    body = Snapshot(
        vault=VaultId(bytes(16)), host=host, sequence=sequence, previous=bytes(32), root=bytes(32),
        started_ns=0, taken_ns=sequence, files=1, bytes=1, signs=signs,
    )  # fmt: skip
    return SnapshotInfo(SnapshotId(host + sequence.to_bytes(16, "big")), body, 0)


def sequences(found: list[SnapshotInfo]) -> list[int]:
    """Return which they are."""
    return [info.snapshot.sequence for info in found]


def test_the_last_clean_one_is_before_what_the_first_sign_began_to_count() -> None:
    """Not merely before the snapshot that shows it: a slow attack is in those before, too."""
    chain = [snapshot(n) for n in range(1, 6)] + [snapshot(6, Sign("lost-dicom", 9, 100, 4))]
    assert sequences(last_clean(chain)) == [3]
    assert sequences(last_clean([*chain[:5], snapshot(6, Sign("canary", 1))])) == [5]
    assert began(chain[-1].snapshot) == 4


def test_without_signs_or_when_they_are_acknowledged_nothing_is_pinned() -> None:
    """Signs that somebody has looked at count no more; later ones do."""
    chain = [snapshot(1), snapshot(2, Sign("canary", 1)), snapshot(3)]
    assert last_clean(chain[:1]) == []
    assert sequences(unacknowledged(chain)) == [2]
    assert unacknowledged(chain, {chain[1].id}) == last_clean(chain, {chain[1].id}) == []
    again = [*chain, snapshot(4, Sign("canary", 1))]
    assert sequences(last_clean(again)) == [1]
    assert sequences(last_clean(again, {chain[1].id})) == [3]


def test_each_host_has_a_last_clean_one_of_its_own() -> None:
    """One host's signs say nothing of another's, and a first snapshot with signs has none."""
    other = [snapshot(1, host=TWO), snapshot(2, Sign("canary", 1), host=TWO)]
    assert last_clean([snapshot(1), snapshot(2), *other]) == [other[0]]
    assert last_clean([snapshot(1, Sign("canary", 1))]) == []


def test_a_removed_snapshot_leaves_the_one_before_it_as_the_last_clean_one() -> None:
    """Retention may have thinned the chain meanwhile."""
    chain = [snapshot(1), snapshot(2), snapshot(9, Sign("lost-dicom", 9, 100, 5))]
    assert sequences(last_clean(chain)) == [2]


@pytest.mark.parametrize("sign", [Sign("canary", 1), Sign("of a later version", 2, 3, 4)])
def test_signs_are_read_back_and_a_kind_that_is_not_known_is_no_error(sign: Sign) -> None:
    """A gate may be older than an agent."""
    body = snapshot(4, sign).snapshot
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=Snapshot) == body
