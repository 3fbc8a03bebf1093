"""A patient's name in directories, files and DICOM tags: it shows in the doctor's mount alone.

The patient's ID and the UIDs of study, series and image, which trees hold, likewise.

Not in logs, messages to outsiders, object names, stored bytes, audits or process titles; after a
backup, an unlock, reads, a damaged file, a restore, and a recovery.
"""

import errno
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pydicom
import pytest

from agent.cli.people import Said, as_user
from tests.e2e.hospital import VAULT, Installation, Running

pytestmark = [pytest.mark.root, pytest.mark.fuse]

DOCTOR, OPERATOR, OUTSIDER, PACS = 65_031, 65_032, 65_033, 65_034
ME = 0
NAME = "ZZSECRET^NAME"
SPELLED = tuple(NAME.encode(code) for code in ("ascii", "utf-16-le"))
UID = "1.2.826.0.1.3680043.9.4711815"
FOLDER, FILE = f"{NAME}-folder", f"{NAME}.dcm"


@pytest.fixture
def hospital(place: Path) -> Installation:
    """Return an installation whose source is full of the name, its own label included."""
    source = place / f"pacs-{NAME}"
    (source / FOLDER).mkdir(parents=True)
    dataset = pydicom.dcmread(str(files("pydicom.data") / "test_files" / "CT_small.dcm"))
    dataset.PatientName = dataset.PatientID = NAME
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.SOPInstanceUID = UID
    dataset.save_as(source / FOLDER / FILE)
    (source / FOLDER / f"{NAME} is a link").symlink_to(f"../{NAME}-target")
    (source / "note.txt").write_text(f"{NAME} was here\n" * 1000)
    os.setxattr(source / "note.txt", "user.note", NAME.encode())
    installation = Installation(place, source)
    installation.found("it-administrator", "auditor")
    return installation


def shows(data: bytes) -> bool:
    """Tell whether the name is in there, whatever its case."""
    upper = data.upper()
    words = (*(spelled.upper() for spelled in SPELLED), b"ZZSECRET", UID.encode())
    return any(word in upper for word in words)


def titles(running: Running) -> Iterator[bytes]:
    """Yield title, name and environment of every process below `vitrine up`."""
    waiting, found = [running.process.pid], 0
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            waiting += map(int, (process / f"task/{process.name}/children").read_text().split())
            told = [(process / part).read_bytes() for part in ("cmdline", "comm", "environ")]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a worker that has ended meanwhile
        found += 1
        yield from told
    assert found >= 4, "the command, and three services below it"


def test_a_patients_name_shows_in_the_mount_and_nowhere_else(hospital: Installation) -> None:
    """The search finds it in the mount, so it would find it elsewhere."""
    seen: dict[str, bytes] = {}
    with hospital.up() as running:
        hospital.wait_for_snapshot(1)
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        operator = hospital.add("operator", OPERATOR, "restore-operator")
        mount = Path(hospital.unlock(doctor).path)
        inner = mount / "latest" / hospital.sources[0].name
        content = as_user(DOCTOR, (inner / FOLDER / FILE).read_bytes)
        assert shows(content), "the search finds what is there"
        seen["titles in a session"] = b"\0".join(titles(running))
        messages = [*outsiders_ask(hospital), *insiders_fail(hospital)]
        _reads_what_is_damaged(hospital, inner)
        theirs = hospital.directory / "theirs"
        theirs.mkdir()
        os.chown(theirs, PACS, PACS)
        words = ("restore", VAULT, "--target", str(theirs), *operator.factors())
        messages.append(hospital.ask(OPERATOR, *words))
        seen["titles in the end"] = b"\0".join(titles(running))
        messages.append(hospital.ask(OPERATOR, "restore", VAULT, "--target", "/", "--otp", "1",
                                     "--password-file", str(operator.password)))  # fmt: skip
        seen["audit"] = "\n".join(map(str, hospital.audit())).encode()
    seen["log"] = hospital.log.encode()
    seen["messages"] = "\n".join(said.output + said.errors for said in messages).encode()
    seen |= in_the_repository(hospital)
    seen |= {
        str(path): path.read_bytes()
        for service in ("agent", "gate")
        for path in (hospital.config / "state" / service / "audit").rglob("*")
        if path.is_file()
    }
    assert len(seen) > 10
    assert [where for where, data in seen.items() if shows(data)] == []


def outsiders_ask(hospital: Installation) -> list[Said]:
    """Return what somebody without any right is told who guesses the name."""
    secret = ("--password-file", str(hospital.admin.password), "--otp", "123456")
    asked = [
        hospital.ask(OUTSIDER, *words)
        for words in (
            ("unlock", VAULT, *secret), ("snapshots",), ("sessions",), ("user", "list"),
            ("ls", VAULT), ("audit", "show"), ("status",),
        )
    ]  # fmt: skip
    assert all(said.status for said in asked)
    return asked


def insiders_fail(hospital: Installation) -> list[Said]:
    """Return what people with rights, but none to look inside, are told."""
    return [hospital.ask(OPERATOR, "snapshots"), hospital.ask(ME, "verify", "--read-data"),
            hospital.ask(ME, "user", "list"), hospital.ask(ME, "snapshots")]  # fmt: skip


def _reads_what_is_damaged(hospital: Installation, inner: Path) -> None:
    """Damage the pack of a new file, and read that file: an error by its number, a log line."""
    source = hospital.sources[0]
    known = set(hospital.repository.glob("packs/*/*"))
    (source / f"{NAME} damaged.dcm").write_bytes(os.urandom(400_000))
    hospital.wait_until_protected()
    pack = max(set(hospital.repository.glob("packs/*/*")) - known, key=os.path.getsize)
    good = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(good[:200_000] + bytes([good[200_000] ^ 1]) + good[200_001:])
    doctor = hospital.add("doctor2", OUTSIDER, "doctor")
    latest = Path(hospital.unlock(doctor).path) / "latest" / inner.name
    with pytest.raises(OSError, match="rror") as caught:
        as_user(OUTSIDER, (latest / f"{NAME} damaged.dcm").read_bytes)
    assert caught.value.errno == errno.EIO
    assert pack.name in hospital.log
    said = hospital.ask(ME, "verify", "--read-data")
    assert said.status == 14
    assert not shows((said.output + said.errors).encode())


def in_the_repository(hospital: Installation) -> dict[str, bytes]:
    """Return every object, and the list of their names."""
    found = {str(p.relative_to(hospital.repository)): p.read_bytes()
             for p in hospital.repository.rglob("*") if p.is_file()}  # fmt: skip
    return found | {"object names": "\n".join(found).encode()}
