"""A hospital is attacked: an alarm, a timeline that shows it, and what was clean comes back.

Nothing of that says a name.
"""

import os
from importlib.resources import files
from pathlib import Path

import msgspec
import pydicom
import pytest

from agent.audit.files import AuditFiles, newest_records
from agent.cli.canary import CanaryLine
from agent.control.gate_messages import Timeline
from agent.model.snapshot import SnapshotInfo
from tests.e2e.hospital import VAULT, Installation
from tests.fakes.compare import differences

pytestmark = [pytest.mark.root, pytest.mark.fuse]

OUTSIDER = 65_041
REFUSED = 31
NAME = "ZZSECRET"
STUDIES, IMAGES = 6, 5


@pytest.fixture
def hospital(place: Path) -> Installation:
    """Return an installation with some studies, in directories that say whom they are about."""
    source = place / "pacs"
    dataset = pydicom.dcmread(str(files("pydicom.data") / "test_files" / "CT_small.dcm"))
    for study in range(STUDIES):
        directory = source / f"{NAME}-{study}"
        directory.mkdir(parents=True)
        dataset.StudyInstanceUID = f"1.2.3.{study + 1}"
        for number in range(IMAGES):
            dataset.SOPInstanceUID = f"1.2.3.{study + 1}.{number + 1}"
            dataset.save_as(directory / f"{NAME}{number}.dcm")
    installation = Installation(place, source)
    installation.found("it-administrator", "auditor")
    script = place / "on-alert"
    script.write_text(f'#!/bin/sh\necho "$VITRINE_VAULT $VITRINE_SIGNS" >> {place}/alerts\n')
    script.chmod(0o755)
    installation.configure_agent(alert_command=(str(script),))
    return installation


def encrypt(directory: Path) -> None:
    """Do to every image of a directory what ransomware does."""
    for number, path in enumerate(sorted(directory.iterdir())):
        path.write_bytes(os.urandom(path.stat().st_size))
        if number % 2:
            path.rename(path.with_name(f"{path.name}.{NAME}-locked"))


def told(hospital: Installation) -> Timeline:
    """Return the timeline."""
    return msgspec.json.decode(hospital.vitrine("timeline", VAULT, "--json").output, type=Timeline)


def calm_day(hospital: Installation) -> SnapshotInfo:
    """Add an image, delete a study, plant a canary; return the last snapshot."""
    source = hospital.sources[0]
    hospital.wait_for_snapshot(1)
    new = source / f"{NAME}-new"
    new.mkdir()
    (new / "a.dcm").write_bytes((source / f"{NAME}-0" / f"{NAME}0.dcm").read_bytes() + b"\0\0")
    for path in (source / f"{NAME}-5").iterdir():
        path.unlink()
    hospital.wait_until_protected()
    hospital.vitrine("canary", "add", str(source))
    return hospital.wait_until_protected()


def test_an_attack_is_noticed_shown_and_undone(hospital: Installation) -> None:
    """After a calm day images are encrypted, some renamed, and then a canary is deleted."""
    source, alerts = hospital.sources[0], hospital.directory / "alerts"
    before, after = hospital.directory / "before", hospital.directory / "after"
    with hospital.up() as running:
        clean = calm_day(hospital)
        calm = told(hospital)
        assert (calm.attacks, alerts.exists()) == ((), False)
        assert sum(point.removed for point in calm.points) == IMAGES
        hospital.recover(before)

        with running.held("agent"):  # one run finds it all: half an attack may be no sign yet
            for study in (1, 2, 3):
                encrypt(source / f"{NAME}-{study}")
        hospital.wait_until(alerts.exists, "an alert")
        canary = Path(canaries(hospital)[0].path)
        canary.unlink()
        hospital.wait_until(lambda: "canary=1/3" in alerts.read_text(), "the canary's alert")

        timeline, shown = told(hospital), hospital.vitrine("timeline", VAULT)
        assert hospital.ask(OUTSIDER, "timeline", VAULT).status == REFUSED
    assert [attack.last_clean for attack in timeline.attacks] == [clean.id.hex()]
    assert [one.id for one in timeline.points if one.mark == "last clean"] == [clean.id.hex()]
    kinds = {sign.kind for point in timeline.points for sign in point.signs}
    assert {"lost-dicom", "canary"} <= kinds
    assert f"vitrine restore {VAULT} --at {clean.id.hex()[:12]}" in shown.output
    assert "lost-dicom=" in alerts.read_text()

    hospital.recover(after, "--snapshot", clean.id.hex()[:12])
    assert differences(before, after) == []
    audit = agent_audit(hospital)
    assert '"event":"signs-seen"' in audit
    for said in (hospital.log, alerts.read_text(), audit, shown.output, str(timeline)):
        assert NAME not in said
        assert canary.name not in said


def canaries(hospital: Installation) -> list[CanaryLine]:
    """Return what `vitrine canary list` says."""
    said = hospital.ask(os.geteuid(), "canary", "list", "--json")
    return msgspec.json.decode(said.output, type=list[CanaryLine])


def agent_audit(hospital: Installation) -> str:
    """Return the agent's audit records."""
    state = hospital.config / "state" / "agent" / "audit"
    return "\n".join(newest_records(AuditFiles.under(state), 1000))
