"""A real PACS: Orthanc receives, changes and deletes studies while the agent watches."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pydicom.data
import pytest
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from agent.cli.people import as_user
from agent.model.snapshot import SnapshotInfo, Trigger
from tests.e2e.hospital import Installation, Person
from tests.e2e.orthanc import Attached, Orthanc, attached_files, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.fuse,
    pytest.mark.service("Orthanc", "storescu", "findscu"),
]

DOCTOR = 65_001


class Recorded(NamedTuple):
    """A snapshot, and what Orthanc said of itself at that moment."""

    snapshot: SnapshotInfo
    files: dict[str, Attached]
    counts: dict[str, int]


def test_what_a_pacs_changed_and_deleted_is_still_there_and_a_copy_of_it_runs(place: Path) -> None:
    """Stored by C-STORE, protected, changed, deleted, still read, restored, running again."""
    storage, scratch = place / "orthanc", place / "scratch"
    storage.mkdir()
    scratch.mkdir()
    hospital = Installation(place, storage)
    hospital.found("it-administrator", "auditor")
    with hospital.up():
        with running(storage, scratch) as pacs:
            doctor = hospital.add("doctor", DOCTOR, "doctor")
            hospital.wait_for_snapshot(1)
            pacs.send(_sendable())
            before = _recorded(hospital, pacs, scratch)
            assert before.snapshot.snapshot.trigger is Trigger.CHANGE, "noticed, not found"
            assert len(before.files) >= before.counts["CountInstances"] >= 10
            _is_in_the_mount(hospital, doctor, before, before)

            _change_one_and_delete_one(pacs)
            after = _recorded(hospital, pacs, scratch)
            gone = before.files.keys() - after.files.keys()
            assert gone
            assert after.files.keys() - before.files.keys(), "the changed study is stored anew"
            assert not any((storage / before.files[uuid].path).exists() for uuid in gone)
            _is_in_the_mount(hospital, doctor, after, before)
            assert pacs.found_studies() == before.counts["CountStudies"] - 1
        closed = after._replace(snapshot=hospital.wait_until_protected())
    for name, then in (("while it ran", before), ("after it ended", closed)):
        hospital.recover(place / name, "--snapshot", then.snapshot.id.hex())
        with running(place / name / "orthanc", scratch) as copy:
            assert copy.counts() == then.counts, name
            assert copy.found_studies() == then.counts["CountStudies"], name


def _recorded(hospital: Installation, pacs: Orthanc, scratch: Path) -> Recorded:
    """Return the snapshot that the agent takes of what Orthanc has stored by now."""
    snapshot = hospital.wait_until_protected()
    return Recorded(snapshot, attached_files(pacs.storage, scratch / "copy"), pacs.counts())


def _is_in_the_mount(hospital: Installation, doctor: Person, now: Recorded, then: Recorded) -> None:
    """Compare what the doctor reads, of now and of then, with the MD5s that Orthanc recorded."""
    mount = Path(hospital.unlock(doctor).path)
    assert _read_as_doctor(mount / "latest" / "orthanc", now) == _md5s(now)
    past = mount / "snapshots" / then.snapshot.id.hex()[:12] / "orthanc"
    assert _read_as_doctor(past, then) == _md5s(then)


def _change_one_and_delete_one(pacs: Orthanc) -> None:
    changed, deleted = pacs.get("/studies")[:2]
    replacement = {"StudyDescription": "Corrected", "PatientName": "Corrected^Name"}
    order = {"Replace": replacement, "KeepSource": False, "Synchronous": True}
    pacs.post(f"/studies/{changed}/modify", order)
    pacs.delete(f"/studies/{deleted}")


def _sendable() -> list[Path]:
    """Return real studies that every storage server takes: uncompressed, little-endian."""
    below = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests"
    plain = {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
    files = (path for path in sorted(below.rglob("*")) if path.is_file())
    return [
        path
        for path in files
        if path.read_bytes()[128:132] == b"DICM"
        and path.name != "DICOMDIR"
        and read_file_meta_info(path).TransferSyntaxUID in plain
    ]


def _md5s(then: Recorded) -> dict[str, tuple[int, str]]:
    return {one.uuid: (one.size, one.md5) for one in then.files.values()}


def _read_as_doctor(root: Path, then: Recorded) -> dict[str, tuple[int, str]]:
    """Return size and MD5 of files below `root` in the mount, as the doctor reads them."""

    def read() -> dict[str, tuple[int, str]]:
        contents = {one.uuid: (root / one.path).read_bytes() for one in then.files.values()}
        return {
            uuid: (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())
            for uuid, data in contents.items()
        }

    return as_user(DOCTOR, read)
