"""`vitrine drill` on a founded installation: an Orthanc's own storage comes back and runs."""

import os
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest

from agent.audit.files import newest_records
from agent.cli.founding import Administrator, NewVault, Places, found_gate, found_vault
from agent.clock import SystemClock
from agent.config import SourceConfig
from agent.maintained import opened
from tests.e2e.orthanc import running

pytestmark = pytest.mark.service("Orthanc", "storescu")
PASSPHRASE = "a long enough recovery passphrase"


class Installed:
    """A founded installation that protects one directory."""

    def __init__(self, scratch: Path, source: Path) -> None:
        """Found it."""
        self.places = Places.of(scratch / "etc", scratch / "repository")
        people = Administrator("admin", os.getuid(), ("it-administrator",), "it", "a password long")
        found_gate(self.places, people, SystemClock())
        vault = NewVault("radiology", "imaging", 4, (SourceConfig(str(source)),), PASSPHRASE)
        found_vault(self.places, vault, 5.0, SystemClock())

    def vitrine(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [sys.executable, "-m", "agent.cli", *arguments]
        command += ["--config-dir", str(self.places.config)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_orthanc_that_was_backed_up_is_restored_and_runs(tmp_path: Path) -> None:
    """Its database knows each file's MD5, and the restored server counts the same images."""
    storage = tmp_path / "orthanc"
    storage.mkdir()
    files = Path(pydicom.data.__file__).parent / "test_files"
    with running(storage, tmp_path) as pacs:
        pacs.send([files / "CT_small.dcm", files / "MR_small.dcm"])
        instances = pacs.counts()["CountInstances"]
    installed = Installed(tmp_path, storage)
    taken = installed.vitrine("snapshot", "--full")
    assert taken.returncode == 0, taken.stderr

    ran = installed.vitrine("drill")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"Orthanc counts {instances} of {instances} images" in ran.stdout
    assert "every hash right" in ran.stdout

    reports = installed.places.state / "maintenance" / "reports"
    (report,) = reports.glob("*.json")
    checked = installed.vitrine("drill", "--check", str(report))
    assert "unchanged" in checked.stdout, checked.stderr
    with opened(installed.places.file("maintenance.toml")) as work:
        records = "\n".join(newest_records(work.state.audit, 20))
    assert "drill-started" in records
    assert "drill-ended" in records


def test_a_drill_that_fails_says_so_with_its_status(tmp_path: Path) -> None:
    """A torn database is no recovery: status 54, and the report tells."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "his.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    installed = Installed(tmp_path, source)
    assert installed.vitrine("snapshot", "--full").returncode == 0
    ran = installed.vitrine("drill")
    assert ran.returncode == 54, ran.stdout + ran.stderr
    assert "1 do not open" in ran.stdout
    assert "his.sqlite" not in ran.stdout + ran.stderr
