"""Verifying the audit: every change, cut, gap and swap is found, and the record named."""

import json
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from agent.audit.head import SLOT_BYTES
from agent.audit.records import decode, encode, line_hash
from agent.audit.recover import RECORDS_AN_APPEND
from agent.audit.verify import verify_chain
from agent.errors import AuditBroken
from tests.fakes.audit import AuditKit, note
from tests.fakes.clock import FakeClock


@pytest.fixture(name="kit")
def _kit(tmp_path: Path) -> AuditKit:
    kit = AuditKit(tmp_path, FakeClock())
    kit.grown(4)
    return kit


def broken(kit: AuditKit) -> str:
    """Return what is wrong with the chain; fail if nothing is."""
    with pytest.raises(AuditBroken) as caught:
        verify_chain(kit.files, kit.key)
    return caught.value.message


def rewrite(kit: AuditKit, lines: list[bytes]) -> None:
    """Put other lines into the chain file."""
    kit.files.chain.write_bytes(b"".join(line + b"\n" for line in lines))


def lines(kit: AuditKit) -> list[bytes]:
    """Return the chain's lines."""
    return kit.files.chain.read_bytes().splitlines()


def test_clean_chain_is_counted(kit: AuditKit) -> None:
    """Records, signatures, and nothing unconfirmed."""
    verified = verify_chain(kit.files, kit.key)
    assert (verified.records, verified.signatures, verified.unconfirmed) == (8, 1, 0)


def test_every_flipped_byte_of_the_chain_is_found(kit: AuditKit) -> None:
    """Not one byte can change unnoticed; the message names a record."""
    clean = kit.files.chain.read_bytes()
    for at in range(len(clean)):
        damaged = bytearray(clean)
        damaged[at] ^= 1 << at % 8
        kit.files.chain.write_bytes(damaged)
        message = broken(kit)
        number = int(message.removeprefix("audit record ").split()[0])
        line = clean[:at].count(b"\n") + 1
        assert number in {line, line + 1}, (at, message)


def test_every_flipped_byte_of_the_head_is_found(kit: AuditKit) -> None:
    """The head is as guarded as the chain, in all that is read of it."""
    clean = kit.files.head.read_bytes()
    for at in [*range(110), *range(SLOT_BYTES, SLOT_BYTES + 110), len(clean) - 1]:
        damaged = bytearray(clean)
        damaged[at] ^= 1 << at % 8
        kit.files.head.write_bytes(damaged)
        assert "head" in broken(kit)


def test_every_cut_is_found(kit: AuditKit) -> None:
    """Cut off after any byte, down to nothing."""
    clean = kit.files.chain.read_bytes()
    for size in range(len(clean)):
        kit.files.chain.write_bytes(clean[:size])
        assert broken(kit).startswith("audit record ")


def test_cut_tail_names_the_first_missing_record(kit: AuditKit) -> None:
    """The message says from where to where the record is gone."""
    rewrite(kit, lines(kit)[:-3])
    assert broken(kit) == "audit record 6 is gone, as are all to 8: the end was cut off"


def test_missing_record_is_named(kit: AuditKit) -> None:
    """One taken out of the middle."""
    whole = lines(kit)
    rewrite(kit, whole[:3] + whole[4:])
    assert broken(kit) == "audit record 4 is missing: number 5 stands in its place"


def test_swapped_records_are_named(kit: AuditKit) -> None:
    """Two that changed places."""
    whole = lines(kit)
    whole[3], whole[4] = whole[4], whole[3]
    rewrite(kit, whole)
    assert broken(kit).startswith("audit record 4 ")


def test_repeated_record_is_named(kit: AuditKit) -> None:
    """The same one twice."""
    whole = lines(kit)
    rewrite(kit, [*whole[:4], *whole[3:]])
    assert broken(kit).startswith("audit record 5 ")


def test_added_record_is_found(kit: AuditKit) -> None:
    """A record that follows perfectly, but that no head vouches for, is counted as such."""
    last = decode(lines(kit)[-1], 8)
    forged = msgspec.structs.replace(
        last, seq=9, event="session-started", prev=line_hash(lines(kit)[-1])
    )
    rewrite(kit, [*lines(kit), encode(forged)])
    assert verify_chain(kit.files, kit.key).unconfirmed == 1


def test_rewritten_history_is_found(kit: AuditKit) -> None:
    """All hashes made anew after a change: the signatures cannot be."""
    records = [decode(line, n) for n, line in enumerate(lines(kit), 1)]
    forged: list[bytes] = []
    for record in records:
        fields = json.loads(encode(record))
        fields["actor"] = fields["actor"].replace("user2", "user3")
        fields["prev"] = line_hash(forged[-1]) if forged else fields["prev"]
        forged.append(json.dumps(fields, separators=(",", ":")).encode())
    rewrite(kit, forged)
    assert broken(kit) == "audit record 8 has a wrong signature"
    rewrite(kit, forged[:-1])
    assert "record 8 is gone" in broken(kit)


def test_record_in_another_form_is_found(kit: AuditKit) -> None:
    """Spaces, another order, a key twice: one record has one form."""
    whole = lines(kit)
    for form in (
        whole[3].replace(b":", b": ", 1),
        b'{"seq":4,' + whole[3][1:],
        json.dumps(dict(reversed(json.loads(whole[3]).items())), separators=(",", ":")).encode(),
    ):
        rewrite(kit, [*whole[:3], form, *whole[4:]])
        assert broken(kit).startswith("audit record 4 is damaged")


def test_deleted_files_are_found(kit: AuditKit) -> None:
    """The chain, the head, or both: gone is not clean."""
    aside = kit.files.head.with_suffix(".aside")
    kit.files.head.rename(aside)
    assert "head of the audit is gone" in broken(kit)
    aside.rename(kit.files.head)
    kit.files.chain.unlink()
    assert "no chain file" in broken(kit)
    kit.files.head.unlink()
    assert "no chain file" in broken(kit)


def test_another_chain_in_its_place_is_found(kit: AuditKit, tmp_path: Path) -> None:
    """A chain kept by another key is not this one, even with its own head."""
    (tmp_path / "other").mkdir()
    other = AuditKit(tmp_path / "other", FakeClock())
    other.grown(4)
    shutil.copy(other.files.chain, kit.files.chain)
    assert broken(kit) == "audit record 1 is not the first of the chain that this key keeps"
    shutil.copy(other.files.head, kit.files.head)
    assert broken(kit) == "audit record 1 is not the first of the chain that this key keeps"


def test_another_chain_of_the_same_key_is_found(kit: AuditKit, tmp_path: Path) -> None:
    """Begun anew with the same key: the head of the first still says otherwise."""
    (tmp_path / "again").mkdir()
    again = AuditKit(tmp_path / "again", FakeClock(), kit.signer)
    again.clock.advance(1)
    again.grown(4)
    shutil.copy(again.files.chain, kit.files.chain)
    assert broken(kit) == "audit record 8 is not the one that the signed head vouches for"


def test_running_chain_verifies(kit: AuditKit) -> None:
    """The check runs beside the writer, at any moment."""
    chain = kit.opened()
    for _ in range(5):
        note(chain)
        assert verify_chain(kit.files, kit.key).unconfirmed == 0
    chain.close()


def test_check_beside_a_busy_writer_raises_no_false_alarm(kit: AuditKit) -> None:
    """Whatever the moment, a chain that is being written verifies."""
    chain = kit.opened()
    done = threading.Event()

    def write() -> None:
        for _ in range(300):
            note(chain)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        verified = verify_chain(kit.files, kit.key)
        assert verified.unconfirmed <= RECORDS_AN_APPEND
    writer.join()
    chain.close()
    assert verify_chain(kit.files, kit.key).records > 300


def test_line_in_the_writing_is_not_a_fault(kit: AuditKit) -> None:
    """Half a line beyond the head is being written, or was torn: the chain to there is whole."""
    with kit.files.chain.open("ab") as file:
        file.write(b'{"seq":9')
    assert verify_chain(kit.files, kit.key).records == 8


def test_endless_line_is_refused_in_bounded_memory(kit: AuditKit) -> None:
    """A file without newlines is not read whole."""
    with kit.files.chain.open("ab") as file:
        file.truncate(os.fstat(file.fileno()).st_size + 2**33)  # sparse
    assert broken(kit).startswith("audit record 9 ")
