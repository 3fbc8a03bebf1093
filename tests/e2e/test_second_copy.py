"""A month of a founded installation: parity, a copy, damage, repair, and every file read."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audit.files import newest_records
from agent.cli.upkeep import rotate
from agent.maintained import opened
from agent.repository import layout
from agent.store.local import LocalStore
from tests.e2e.test_drill import Installed
from tests.fakes.contents import objects

KiB = 1024


class Hospital:
    """An installation with a snapshot, parity and a copy."""

    def __init__(self, scratch: Path) -> None:
        """Found it, back up, maintain, copy."""
        source = scratch / "source"
        source.mkdir()
        for number in range(3):
            (source / f"study{number}").write_bytes(os.urandom(900 * KiB))
        self.installed = Installed(scratch, source)
        self.repository = scratch / "repository"
        self.copy = scratch / "copy"
        self.done("snapshot", "--full")
        self.done("maintain")
        self.done("copy", str(self.copy))

    def done(self, *arguments: str, status: int = 0) -> str:
        """Run a command that ends with this status; return what it printed."""
        ran = self.installed.vitrine(*arguments)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout

    def pack(self) -> Path:
        """Return the file of the largest pack."""
        return max((self.repository / "packs").glob("*/*"), key=lambda path: path.stat().st_size)

    def damage(self, kib: int) -> None:
        """Zero a stretch in the midst of the largest pack."""
        path = self.pack()
        data = bytearray(path.read_bytes())
        data[200 * KiB : (200 + kib) * KiB] = bytes(kib * KiB)
        path.write_bytes(data)

    def records(self) -> str:
        """Return the newest records of the audit of maintenance."""
        with opened(self.installed.places.file("maintenance.toml")) as work:
            return "\n".join(newest_records(work.state.audit, 30))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """Return one."""
    return Hospital(tmp_path)


def test_a_copy_is_the_repository_and_can_be_verified_without_a_key(hospital: Hospital) -> None:
    """Object by object; the second time there is nothing to copy."""
    first, second = LocalStore(hospital.repository), LocalStore(hospital.copy)
    assert objects(first) == objects(second)
    assert any(name.startswith(layout.PARITY) for name in objects(second))
    first.close()
    second.close()
    assert "0 objects" in hospital.done("copy", str(hospital.copy))
    assert "0 objects" in hospital.done(
        "copy", str(hospital.copy), "--from", str(hospital.repository)
    )
    assert "repository-copied" in hospital.records()
    assert "Everything is as it should be" in hospital.done(
        "verify", str(hospital.copy), "--read-data"
    )


def test_damage_is_healed_from_parity_within_the_month_and_on_record(
    hospital: Hospital, expect_log: Callable[..., None]
) -> None:
    """By the thirtieth that is read each day; `vitrine status` says how far it has come."""
    expect_log("was damaged, and is healed")
    whole = hospital.pack().read_bytes()
    hospital.damage(60)
    with opened(hospital.installed.places.file("maintenance.toml")) as work:
        healed = [name for _ in range(29) for name in rotate(work).healed]
    said = hospital.done("verify", "--rotate")  # the part that `maintain` read, when all was whole
    assert len(healed) + ("1 healed" in said) == 1
    assert hospital.pack().read_bytes() == whole
    assert "clean" in said
    assert '"verification"' in hospital.records()
    assert "clean · every byte was read; the first of them" in hospital.done("verify", "--last")
    status = hospital.installed.vitrine("status")  # status 1: no service runs
    assert "Verification: clean · every byte was read" in status.stdout


def test_what_parity_cannot_heal_a_copy_can(hospital: Hospital) -> None:
    """Status 14 and a name without it, 0 with it; then every file is as it was."""
    whole = hospital.pack().read_bytes()
    hospital.damage(600)
    lost = json.loads(hospital.done("repair", "--json", status=14))
    assert lost["repair"]["lost"] == [f"packs/{hospital.pack().parent.name}/{hospital.pack().name}"]
    assert lost["lacking"][0]["lacking"] > 0
    told = json.loads(hospital.done("verify", "--contents", "radiology", "--json", status=14))
    assert told[0]["lacking"] + told[0]["lost_pages"] > 0
    assert "1 brought back" in hospital.done("repair", "--from", str(hospital.copy))
    assert hospital.pack().read_bytes() == whole
    assert "Every file is as it was backed up" in hospital.done("verify", "--contents", "radiology")
    assert "repository-repaired" in hospital.records()
    assert "Nothing is damaged" in hospital.done("repair")


def test_without_a_key_a_disk_can_be_repaired_too(hospital: Hospital) -> None:
    """From its own parity, wherever it is put in."""
    hospital.damage(60)
    assert "1 healed from parity" in hospital.done("repair", str(hospital.repository))
    hospital.done("repair", str(hospital.repository), "--drop-damaged", status=2)
    assert "parity for 0 objects" in hospital.done("parity", str(hospital.copy))


def test_what_does_not_go_together_is_refused(hospital: Hospital) -> None:
    """With status 2, or the repository's own."""
    hospital.done("verify", "--rotate", "--read-data", status=2)
    hospital.done("verify", "--last", "--rotate", status=2)
    hospital.done("verify", "--snapshot", "abcd", status=2)
    hospital.done("verify", "--contents", "nowhere", status=62)
    other = Installed(hospital.repository.parent / "other", hospital.repository)
    assert other.places.config.exists()
    hospital.done("copy", str(hospital.repository.parent / "other" / "repository"), status=23)
