"""Writing the audit: durable before it counts, one writer, mended after a crash, never silent."""

import itertools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audit.chain import SIGN_EVERY_RECORDS, SIGN_EVERY_S, AuditChain
from agent.audit.create import create_chain
from agent.audit.files import AuditFiles, newest_records
from agent.audit.head import SLOT_BYTES
from agent.audit.records import MAX_LINE_BYTES, MAX_TEXT, Detail, Event, Outcome
from agent.audit.recover import MAX_AHEAD
from agent.audit.verify import verify_chain
from agent.errors import AuditBroken, AuditUnavailable, ConfigInvalid
from tests.fakes.audit import AuditKit, note
from tests.fakes.clock import FakeClock


@pytest.fixture(name="kit")
def _kit(tmp_path: Path) -> AuditKit:
    return AuditKit(tmp_path, FakeClock())


def lines(kit: AuditKit) -> list[bytes]:
    """Return the chain's lines."""
    return kit.files.chain.read_bytes().splitlines()


def events(kit: AuditKit) -> list[str]:
    """Return what happened, in order."""
    return [json.loads(line)["event"] for line in lines(kit)]


def test_record_holds_what_was_said(kit: AuditKit) -> None:
    """Who, what, on what, how it ended, when to the nanosecond: in the file when append returns."""
    chain = kit.opened()
    kit.clock.set_wall(1_795_426_200_123_456_789)
    record = chain.append(
        Event.ACCESS_DECIDED, Outcome.REFUSED, actor="doctor1", action="unlock",
        target="radiology", details={"policies": "doctor-unlock", "hour": 3, "night": True},
    )  # fmt: skip
    stored = json.loads(lines(kit)[-1])
    assert stored["time"] == "2026-11-23T09:30:00.123456789Z"
    assert (stored["actor"], stored["action"], stored["object"]) == (
        "doctor1", "unlock", "radiology",
    )  # fmt: skip
    assert stored["outcome"] == "refused"
    assert stored["details"] == {"hour": 3, "night": True, "policies": "doctor-unlock"}
    assert stored["seq"] == record.seq == 3
    chain.close()


def test_every_record_is_synced_before_append_returns(
    kit: AuditKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each append syncs the chain, then the head; nothing is left to the kernel's mood."""
    chain = kit.opened()
    synced: list[str] = []

    def record_sync(fd: int, real: Callable[[int], None] = os.fdatasync) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", record_sync)
    note(chain)
    assert synced == ["chain.jsonl", "head"]
    chain.close()


def test_chain_goes_on_after_reopening(kit: AuditKit) -> None:
    """A restart continues the same chain."""
    kit.grown(3)
    kit.grown(2)
    verified = verify_chain(kit.files, kit.key)
    assert verified.records == len(lines(kit)) == 1 + 1 + 3 + 2 + 1 + 2 + 2
    assert events(kit).count("audit-opened") == 2
    assert verified.unconfirmed == 0


def test_signatures_come_by_number(kit: AuditKit) -> None:
    """After so many records one signs them all."""
    chain = kit.opened()
    for _ in range(2 * SIGN_EVERY_RECORDS):
        note(chain)
    assert verify_chain(kit.files, kit.key).signatures == 2
    chain.close()
    assert verify_chain(kit.files, kit.key).signatures == 3


def test_signatures_come_by_time(kit: AuditKit) -> None:
    """On a quiet day the next record after the interval is signed at once."""
    chain = kit.opened()
    note(chain)
    kit.clock.advance(SIGN_EVERY_S)
    note(chain)
    assert events(kit)[-2:] == ["session-started", "audit-signed"]
    chain.close()


def test_threads_append_without_gap(kit: AuditKit) -> None:
    """Many threads, one chain."""
    chain = kit.opened()

    def write() -> None:
        for _ in range(10):
            note(chain)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain.close()
    assert verify_chain(kit.files, kit.key).records >= 60


def test_texts_are_bounded_and_plain(kit: AuditKit) -> None:
    """A typed purpose can neither break a line, nor hide, nor turn the reading order, nor flood."""
    chain = kit.opened()
    purpose = "follow-up\n\x1b[31mof \u202ereferral\x00" + "x" * 100_000
    record = chain.append(
        Event.SESSION_STARTED, Outcome.SUCCESS, actor="doctor1\udcff", details={"purpose": purpose}
    )
    stored = record.details["purpose"]
    assert isinstance(stored, str)
    assert stored.startswith("follow-up [31mof referralxxx")
    assert len(stored) == MAX_TEXT
    assert record.actor == "doctor1"
    chain.close()


def test_largest_record_fits_a_line(kit: AuditKit) -> None:
    """The longest texts in the widest characters stay below what a reader takes for a line."""
    chain = kit.opened()
    wide = "\U00020000" * 1000
    details: dict[str, Detail] = {f"{n}{wide}": wide for n in range(10, 42)}
    chain.append(
        Event.SESSION_STARTED, Outcome.SUCCESS, actor=wide, action=wide, target=wide,
        details=details,
    )  # fmt: skip
    chain.close()
    assert max(map(len, lines(kit))) < MAX_LINE_BYTES
    verify_chain(kit.files, kit.key)


def test_too_many_details_are_refused(kit: AuditKit) -> None:
    """A record is a record, not a report."""
    chain = kit.opened()
    many: dict[str, Detail] = {str(number): number for number in range(33)}
    with pytest.raises(ValueError, match="32 details"):
        chain.append(Event.SESSION_STARTED, Outcome.SUCCESS, actor="a", details=many)
    chain.close()


def test_second_writer_is_refused(kit: AuditKit) -> None:
    """Two writers would fork the chain."""
    chain = kit.opened()
    with pytest.raises(AuditUnavailable, match="another process"):
        kit.opened()
    chain.close()
    kit.opened().close()


def test_closed_chain_takes_nothing(kit: AuditKit) -> None:
    """After close every append fails, and closing again does nothing."""
    chain = kit.opened()
    chain.close()
    chain.close()
    with pytest.raises(AuditUnavailable, match="closed"):
        note(chain)


def test_new_chain_never_replaces_an_old_one(kit: AuditKit) -> None:
    """Set-up run twice keeps the record."""
    kit.grown(1)
    before = kit.files.chain.read_bytes()
    with pytest.raises(ConfigInvalid, match="already"):
        create_chain(kit.files, kit.signer, kit.clock, "vitrine-gate")
    assert kit.files.chain.read_bytes() == before


def test_opening_makes_no_chain(tmp_path: Path) -> None:
    """A service that finds no chain refuses, rather than begin a new one."""
    kit = AuditKit(tmp_path, FakeClock())
    for path in kit.files[:2]:
        path.unlink()
    with pytest.raises(AuditBroken, match="gone"):
        kit.opened()
    assert not kit.files.chain.exists()


def test_head_may_lie_elsewhere(tmp_path: Path) -> None:
    """Chain and head on two disks: who replaces one has not the other."""
    (tmp_path / "other").mkdir()
    kit = AuditKit(tmp_path, FakeClock())
    kit.files = AuditFiles.under(tmp_path / "a", head=tmp_path / "other" / "head")
    (tmp_path / "a").mkdir()
    create_chain(kit.files, kit.signer, kit.clock, "vitrine-gate")
    kit.grown(2)
    assert verify_chain(kit.files, kit.key).records == 6


# --- after a crash ------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"{", b"\0" * 100, b'{"seq":6,"time":"20', b"\0" * 10 + b"\n"])
def test_torn_line_is_cut_off_and_said(kit: AuditKit, torn: bytes) -> None:
    """What a power failure left half-written goes, and a record says how much it was."""
    kit.grown(1)
    with kit.files.chain.open("ab") as file:
        file.write(torn)
    kit.opened().close()
    repaired = [json.loads(x) for x in lines(kit) if b"audit-repaired" in x]
    assert [record["details"]["torn_bytes"] for record in repaired] == [len(torn)]
    assert len(repaired[0]["details"]["torn_blake3"]) == 64
    verify_chain(kit.files, kit.key)


def test_record_without_its_head_is_kept_and_said(kit: AuditKit) -> None:
    """A crash between the record and the head loses nothing."""
    chain = kit.opened()
    head = kit.files.head.read_bytes()
    note(chain)
    kit.crash()
    kit.files.head.write_bytes(head)
    assert verify_chain(kit.files, kit.key).unconfirmed == 1
    kit.opened().close()
    repaired = [json.loads(x) for x in lines(kit) if b"audit-repaired" in x]
    assert [record["details"]["unconfirmed"] for record in repaired] == [1]
    assert verify_chain(kit.files, kit.key).unconfirmed == 0


@pytest.mark.parametrize("slot", [0, 1])
def test_torn_head_is_mended_and_said(kit: AuditKit, slot: int) -> None:
    """One slot of the head torn: the other one serves, both are whole again afterwards."""
    kit.grown(2)
    head = bytearray(kit.files.head.read_bytes())
    head[slot * SLOT_BYTES + 20 : slot * SLOT_BYTES + 60] = bytes(40)
    kit.files.head.write_bytes(head)
    kit.opened().close()
    assert "audit-repaired" in events(kit)
    verify_chain(kit.files, kit.key)


def test_kill_at_any_moment_loses_no_acknowledged_record(
    kit: AuditKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before any write or sync, the chain opens again with all that was acknowledged."""
    for moment in range(8):
        chain = kit.opened()
        with monkeypatch.context() as patch:
            die_at(patch, moment)
            acknowledged = appended_until_killed(chain)
        kit.crash()
        written = kit.files.chain.read_bytes().count(b'"acknowledged"')
        kit.opened().close()
        kept = kit.files.chain.read_bytes().count(b'"acknowledged"')
        assert 0 < acknowledged <= kept <= written
        assert verify_chain(kit.files, kit.key).unconfirmed == 0
        kit.files.chain.unlink()
        kit.files.head.unlink()
        create_chain(kit.files, kit.signer, kit.clock, "vitrine-gate")


class Killed(BaseException):
    """The process is gone."""


def die_at(patch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process die at its write or sync number `moment`, once two records are through."""
    calls = itertools.count()

    def dying(name: str) -> None:
        real: Callable[..., int | None] = getattr(os, name)

        def call(*args: object) -> int | None:
            if next(calls) == 8 + moment:  # an append makes two writes and two syncs
                raise Killed
            return real(*args)

        patch.setattr(os, name, call)

    dying("pwrite")
    dying("fdatasync")


def appended_until_killed(chain: AuditChain) -> int:
    """Append until the process dies; return how many records were acknowledged."""
    for acknowledged in range(100):
        try:
            note(chain, "acknowledged")
        except Killed:
            return acknowledged
    pytest.fail("it never died")


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_cut_tail_stops_the_service(kit: AuditKit, cut: int) -> None:
    """Acknowledged records that are gone are no crash: nothing is opened on such a record."""
    kit.grown(5)
    kit.files.chain.write_bytes(b"".join(x + b"\n" for x in lines(kit)[:-cut]))
    with pytest.raises(AuditBroken, match="the end was cut or changed"):
        kit.opened()


def test_half_an_acknowledged_line_stops_the_service(kit: AuditKit) -> None:
    """Torn is only what nobody was told of."""
    kit.grown(2)
    kit.files.chain.write_bytes(kit.files.chain.read_bytes()[:-10])
    with pytest.raises(AuditBroken):
        kit.opened()


def test_more_than_a_crash_can_leave_stops_the_service(kit: AuditKit) -> None:
    """Records that link, but more than one append can leave behind its head, were added."""
    chain = kit.opened()
    head = kit.files.head.read_bytes()
    for _ in range(MAX_AHEAD + 1):
        note(chain)
    kit.crash()
    kit.files.head.write_bytes(head)
    with pytest.raises(AuditBroken, match="something was added"):
        kit.opened()
    with pytest.raises(AuditBroken):
        verify_chain(kit.files, kit.key)


# --- when the disk fails ------------------------------------------------------------------------


def failing(code: int) -> Callable[[int], None]:
    """Return an fdatasync that fails with `code`."""

    def fail(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_failed_sync_ends_the_audit_until_restart(
    kit: AuditKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the kernel may lie about what is on disk: no further record is taken."""
    chain = kit.opened()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(5))
        with pytest.raises(AuditUnavailable, match="Input/output error"):
            note(chain)
    with pytest.raises(AuditUnavailable, match="Input/output error"):
        note(chain)
    with pytest.raises(AuditUnavailable):
        chain.close()
    kit.opened().close()
    verify_chain(kit.files, kit.key)


def test_newest_records_are_read_from_the_end(kit: AuditKit) -> None:
    """The newest few, oldest first; asking for more than there are gives all; none gives none."""
    kit.grown(5)
    everything = tuple(line.decode() for line in lines(kit))
    assert newest_records(kit.files, 3) == everything[-3:]
    assert newest_records(kit.files, 1000) == everything
    assert newest_records(kit.files, 0) == ()


def test_newest_records_of_a_long_chain(kit: AuditKit) -> None:
    """Reading the end of a chain of many blocks gives whole lines."""
    kit.grown(600)
    everything = tuple(line.decode() for line in lines(kit))
    assert newest_records(kit.files, 400) == everything[-400:]
