"""A full disk: told which, old snapshots still open, and all is well once there is space again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from agent.cli.people import Said, as_user
from agent.control.gate_messages import Unlocked
from tests.e2e.disks import assert_told, fill_up, small_disk
from tests.e2e.hospital import VAULT, Installation, unmount_all
from tests.fakes.compare import differences

pytestmark = pytest.mark.root

DOCTOR, ME = 65_021, 0
MiB = 1024 * 1024


@contextmanager
def founded(place: Path, disk: Path, size: str) -> Iterator[Installation]:
    """Yield an installation with one snapshot, in which `disk` is a small file system."""
    pacs = place / "pacs"
    pacs.mkdir()
    (pacs / "0.dcm").write_bytes(os.urandom(MiB))
    hospital = Installation(place, pacs)
    with small_disk(disk, size):
        try:
            hospital.found("it-administrator", "auditor")
            hospital.vitrine("snapshot")
            yield hospital
        finally:
            unmount_all(hospital.config / "run")


def snapshot_of_something_new(hospital: Installation) -> Said:
    """Change the source, and ask for a snapshot."""
    source = hospital.sources[0]
    (source / f"{len(list(source.iterdir()))}.dcm").write_bytes(os.urandom(MiB))
    return hospital.ask(ME, "snapshot")


def is_whole(hospital: Installation, snapshots: int) -> None:
    """Assert that so many snapshots are there, verify, and recover to what the source is."""
    assert len(hospital.snapshots()) == snapshots
    said = hospital.ask(ME, "verify", "--read-data")
    assert said.status == 0, said
    target = hospital.directory / f"recovered-{snapshots}"
    hospital.recover(target)
    if snapshots > 1:
        assert differences(hospital.sources[0], target / hospital.sources[0].name) == []


def test_full_repository_keeps_what_it_has(place: Path) -> None:
    """Status 21, and what to do; nothing half stored, nothing stored twice."""
    with founded(place, place / "repository", "8m") as hospital:
        ballast = fill_up(hospital.repository)
        said = snapshot_of_something_new(hospital)
        assert_told(said, 21, "no space left", hint="free space")
        ballast.unlink()
        is_whole(hospital, 1)
        used = size_of(hospital.repository)
        hospital.vitrine("snapshot")
        is_whole(hospital, 2)
        assert size_of(hospital.repository) < used + MiB * 11 // 10, "stored once"


def size_of(repository: Path) -> int:
    """Return how many bytes lie in a repository."""
    return sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())


def test_full_disk_of_the_agents_state_loses_nothing(place: Path) -> None:
    """Journal or audit, whichever is hit first, is named; the next run does the whole work."""
    with founded(place, place / "etc" / "state" / "agent", "8m") as hospital:
        state = hospital.config / "state" / "agent"
        ballast = fill_up(state)
        said = snapshot_of_something_new(hospital)
        assert said.status in {33, 51}, said
        assert_told(said, said.status, hint="space")
        known = len(hospital.snapshots())
        is_whole(hospital, known)
        ballast.unlink()
        said = snapshot_of_something_new(hospital)
        assert said.status == 0, said
        is_whole(hospital, known + 1)


@pytest.mark.fuse
def test_full_disk_of_the_audit_releases_no_key(place: Path) -> None:
    """Nothing is opened that is not on record; what is open can be locked; it works again after."""
    with founded(place, place / "etc" / "state" / "gate", "8m") as hospital, hospital.up():
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        opened = hospital.unlock(doctor)
        ballast = fill_up(hospital.config / "state" / "gate")
        for _ in range(3):
            said = hospital.ask(DOCTOR, "unlock", VAULT, *doctor.factors())
            assert said.status in {21, 33}, said
            assert_told(said, said.status, hint="free space")
        assert hospital.ask(DOCTOR, "lock").status == 0, "taking away needs no space"
        assert not Path(opened.path).exists()
        ballast.unlink()
        hospital.wait_until(
            lambda: hospital.ask(ME, "audit", "verify").status == 0, "the audit goes on"
        )
        said = hospital.ask(DOCTOR, "unlock", VAULT, *doctor.factors(), "--json")
        assert said.status == 0, said
        path = Path(msgspec.json.decode(said.output, type=Unlocked).path)
        read = as_user(DOCTOR, (path / "latest" / "pacs" / "0.dcm").read_bytes)
        assert read == (hospital.sources[0] / "0.dcm").read_bytes()
        hospital.ask(DOCTOR, "lock")
