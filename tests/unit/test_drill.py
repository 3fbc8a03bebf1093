"""A drill finds what a recovery would find, leaves a signed report, and nothing else."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import msgspec
import pytest
from pydicom.data import get_testdata_file

from agent.clock import SystemClock
from agent.crypto.signing import SigningKey
from agent.drill.page import render
from agent.drill.rehearse import Drill, Scope
from agent.drill.report import DrillReport, verified
from agent.drill.sample import draw
from agent.errors import NoSuchSnapshot, ObjectDamaged
from agent.model.location import PackKind
from agent.repository import layout
from agent.repository.packtable import read_header
from agent.store.memory import MemoryStore
from tests.fakes.backups import BackupFixture
from tests.fakes.vaults import snapshots

PATIENT = "CompressedSamples"  # begins the names and IDs of the patients in pydicom's files


@pytest.fixture
def hospital(tmp_path: Path) -> BackupFixture:
    """Return the backup of a few images, a database and some records in directories."""
    fixture = BackupFixture(MemoryStore(), tmp_path)
    source = Path(os.fsdecode(fixture.source))
    (source / "pacs").mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm"):
        shutil.copy(str(get_testdata_file(name)), source / "pacs" / name)
    with closing(sqlite3.connect(source / "hospital.sqlite")) as database:
        database.execute("CREATE TABLE patients (name TEXT)")
        database.commit()
    for number in range(30):
        below = source / "records" / str(number % 3)
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number}.txt").write_text(f"record {number}\n" * 50)
    fixture.run()
    return fixture


def drill(
    fixture: BackupFixture, *, whole: bool = True, sample: int = 5, pacs: bool = False
) -> DrillReport:
    """Rehearse with the newest snapshot."""
    scratch = fixture.scratch / "drill"
    scratch.mkdir(exist_ok=True)
    newest = snapshots(fixture.store, fixture.vault.secrets)[-1:]
    work = Drill(SystemClock(), lambda *_: None)
    return work.run("radiology", newest, fixture.reader, Scope(sample, whole, scratch, pacs))


def test_everything_comes_back_and_is_looked_at(hospital: BackupFixture) -> None:
    """Sample and whole are hashed, images parse, a PACS takes them, the database opens."""
    report = drill(hospital)
    (host,) = report.hosts
    assert report.passed, host
    assert host.sample is not None
    assert host.whole is not None
    assert host.sample.files == 5
    assert host.whole.compared.files == host.whole.files == 34
    assert host.inspected is not None
    assert (host.inspected.images, host.inspected.studies) == (3, 3)
    assert host.inspected.databases == 1
    assert report.is_measured
    assert report.recovery_time_seconds > 0
    assert report.recovery_point_seconds >= 0


@pytest.mark.service("Orthanc")
def test_a_scratch_orthanc_counts_the_images(hospital: BackupFixture) -> None:
    """What is sent to a real PACS is what it then says it has."""
    (host,) = drill(hospital, pacs=True).hosts
    assert host.inspected is not None
    pacs = host.inspected.pacs
    assert (pacs.server, pacs.own_storage, pacs.expected, pacs.counted) == ("Orthanc", False, 3, 3)


def test_nothing_stays_in_the_scratch_place(hospital: BackupFixture) -> None:
    """Patients' data are gone when the drill is over."""
    drill(hospital)
    assert not list((hospital.scratch / "drill").iterdir())


def test_a_report_holds_no_names(hospital: BackupFixture) -> None:
    """Neither patients nor paths, in JSON or on the page."""
    report = drill(hospital).signed(SigningKey.generate())
    for text in (report.encode().decode(), render(report)):
        assert PATIENT not in text
        assert "CT_small" not in text
        assert "hospital.sqlite" not in text


def test_a_damaged_pack_fails_the_drill(hospital: BackupFixture) -> None:
    """What verify would find, a drill finds as well: files do not come back."""
    store = hospital.store
    for listed in list(store.list(layout.PACKS)):
        pack = layout.pack_id(listed.name)
        assert pack is not None
        header, _ = read_header(store, pack)
        if header.kind is PackKind.DATA:
            data = bytearray(store.get(listed.name))
            data[len(data) // 3] ^= 1
            store.delete(listed.name)
            store.put(listed.name, [data])
    report = drill(hospital)
    (host,) = report.hosts
    assert not report.passed
    assert host.whole is None or host.whole.failed
    assert "failed" in render(report)


def test_an_image_that_does_not_parse_fails_the_drill(hospital: BackupFixture) -> None:
    """Restored byte for byte, and yet no image: somebody has to know before the day."""
    torn = Path(os.fsdecode(hospital.source)) / "pacs" / "torn.dcm"
    whole = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    torn.write_bytes(whole[:132] + b"\xff" * 64)
    hospital.run()
    report = drill(hospital)
    (host,) = report.hosts
    assert host.whole is not None
    assert host.whole.passed
    assert host.inspected is not None
    assert host.inspected.images_failed == 1
    assert not report.passed


def test_a_database_that_is_torn_fails_the_drill(hospital: BackupFixture) -> None:
    """A copy of a database that was cut short does not open."""
    path = Path(os.fsdecode(hospital.source)) / "hospital.sqlite"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096 or 4096))
    hospital.run()
    (host,) = drill(hospital).hosts
    assert host.inspected is not None
    assert host.inspected.databases_failed == 1
    assert not host.passed


def test_without_room_only_the_sample_is_restored(
    hospital: BackupFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drill never fills the disk; the recovery time is then reckoned and says so."""
    usage = shutil.disk_usage(hospital.scratch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    report = drill(hospital)
    (host,) = report.hosts
    assert host.whole is None
    assert "room" in host.why_not_whole
    assert not report.is_measured
    assert report.passed
    assert "reckoned" in render(report)


def test_a_vault_without_snapshots_cannot_be_rehearsed(tmp_path: Path) -> None:
    """It is an error, not a drill that passed."""
    with pytest.raises(NoSuchSnapshot):
        Drill(SystemClock(), lambda *_: None).run(
            "radiology", [], lambda: pytest.fail("nothing to open"), Scope(1, True, tmp_path)
        )


def test_a_changed_report_is_found(hospital: BackupFixture) -> None:
    """Nobody can make a failed drill pass later, nor pass off another key's report."""
    signer = SigningKey.generate()
    signed = drill(hospital, whole=False).signed(signer)
    assert verified(signed.encode(), signer.verify_key()) == signed
    prettier = msgspec.structs.replace(signed, recovery_time_seconds=1.0)
    with pytest.raises(ObjectDamaged, match="changed"):
        verified(prettier.encode(), signer.verify_key())
    with pytest.raises(ObjectDamaged, match="another key"):
        verified(signed.encode(), SigningKey.generate().verify_key())
    with pytest.raises(ObjectDamaged, match="no report"):
        verified(b"{}", signer.verify_key())


def test_a_sample_is_drawn_evenly_and_without_repetition(hospital: BackupFixture) -> None:
    """Every file can be drawn, in whatever directory, and none twice."""
    reader = hospital.reader()
    root = snapshots(hospital.store, hospital.vault.secrets)[-1].snapshot.root
    everything = draw(reader, root, 1000, Random(1))
    assert len(set(everything)) == len(everything) == 34
    drawn = {path for seed in range(60) for path in draw(reader, root, 3, Random(seed))}
    assert drawn == set(everything)
