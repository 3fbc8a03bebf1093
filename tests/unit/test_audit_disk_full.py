"""A full disk does not silence the audit: a reserve takes the last records, then nothing opens."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.audit.chain import AuditChain
from agent.audit.records import Event
from agent.audit.verify import verify_chain
from agent.errors import AuditUnavailable
from tests.fakes.audit import SMALL_RESERVE_BYTES, AuditKit, note
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.root
DISK_BYTES = 512 * 1024


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(name="kit")
def _kit(disk: Path) -> Iterator[AuditKit]:
    kit = AuditKit(disk, FakeClock())
    yield kit
    kit.crash()


def fill(disk: Path) -> Path:
    """Take every free byte of the disk; return the file that holds them."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return filler


def events(kit: AuditKit) -> list[str]:
    """Return what happened, in order."""
    return [json.loads(line)["event"] for line in kit.files.chain.read_bytes().splitlines()]


def until_exhausted(chain: AuditChain, event: Event = Event.SESSION_STARTED) -> int:
    """Append until the chain refuses; return how many records it took."""
    for taken in range(10_000):
        try:
            note(chain, event=event)
        except AuditUnavailable:
            return taken
    pytest.fail("the disk never filled")


def test_last_records_are_written_and_then_nothing_opens(kit: AuditKit, disk: Path) -> None:
    """The record that met the full disk is kept, one says so, and further ones are refused."""
    chain = kit.opened()
    fill(disk)
    taken = until_exhausted(chain)
    assert taken == events(kit).count("session-started") > 0
    assert events(kit)[-2:] == ["audit-space-exhausted", "audit-signed"]
    with pytest.raises(AuditUnavailable, match="full"):
        note(chain)
    assert taken == events(kit).count("session-started")
    verify_chain(kit.files, kit.key)


def test_what_ends_access_is_still_written(kit: AuditKit, disk: Path) -> None:
    """Filling the disk hides neither what was opened nor that it ended."""
    chain = kit.opened()
    fill(disk)
    until_exhausted(chain)
    for event in (Event.FILES_OPENED, Event.RESTORE_ENDED, Event.SESSION_ENDED):
        note(chain, event=event)
        assert events(kit)[-1] == event
    with pytest.raises(AuditUnavailable):
        note(chain)
    verify_chain(kit.files, kit.key)


def test_endings_stop_where_the_reserve_is_used_up(kit: AuditKit, disk: Path) -> None:
    """When even the reserve's space is gone, the caller hears of it; the chain stays whole."""
    chain = kit.opened()
    fill(disk)
    until_exhausted(chain)
    assert until_exhausted(chain, Event.SESSION_ENDED) > SMALL_RESERVE_BYTES // 2 // 400
    assert events(kit)[-1] == "session-ended"
    verify_chain(kit.files, kit.key)


def test_audit_goes_on_when_space_returns(kit: AuditKit, disk: Path) -> None:
    """Space freed: the reserve is set aside again, a record says so, and sessions open."""
    chain = kit.opened()
    filler = fill(disk)
    until_exhausted(chain)
    filler.unlink()
    note(chain)
    assert events(kit)[-2:] == ["audit-space-returned", "session-started"]
    assert os.stat(kit.files.reserve).st_blocks * 512 >= SMALL_RESERVE_BYTES
    chain.close()
    verify_chain(kit.files, kit.key)


def test_reserve_is_allocated_from_the_start(kit: AuditKit) -> None:
    """Its blocks are there, not only its length."""
    chain = kit.opened()
    assert os.stat(kit.files.reserve).st_blocks * 512 >= SMALL_RESERVE_BYTES
    chain.close()


def test_chain_opens_on_a_full_disk_to_say_so(kit: AuditKit, disk: Path) -> None:
    """A restart with the disk full spends the reserve, if it is there, and opens nothing."""
    kit.opened().close()
    fill(disk)
    chain = kit.opened()
    until_exhausted(chain)
    assert "audit-space-exhausted" in events(kit)
    verify_chain(kit.files, kit.key)
    with pytest.raises(AuditUnavailable):
        chain.close()


def test_failing_to_open_leaves_the_chain_whole(kit: AuditKit, disk: Path) -> None:
    """Neither space nor reserve: opening is refused, and works again when there is space."""
    kit.opened().close()
    kit.files.reserve.unlink()
    filler = fill(disk)
    with pytest.raises(AuditUnavailable, match="full"):
        open_and_close_often(kit)
    filler.unlink()
    kit.opened().close()
    verify_chain(kit.files, kit.key)


def open_and_close_often(kit: AuditKit) -> None:
    """Open and close until the last page of the chain, which had room, must be full."""
    for _ in range(20):
        kit.opened().close()
