"""`vitrine retention` and `vitrine hold` as an administrator sees them."""

import json
import os
from pathlib import Path

import msgspec

from agent.audit.files import newest_records
from agent.config import MaintenanceConfig, RetentionConfig, load, save
from agent.maintained import opened
from tests.e2e.test_drill import Installed


def _installed(tmp_path: Path, source: Path) -> Installed:
    """Return an installation with four snapshots, of which the rules keep one a year."""
    installed = Installed(tmp_path, source)
    for number in range(4):
        (source / "report").write_bytes(b"report %d" % number)
        assert installed.vitrine("snapshot", "--full").returncode == 0
    file = installed.places.file("maintenance.toml")
    config = load(file, MaintenanceConfig)
    vault = msgspec.structs.replace(config.vault[0], retention=RetentionConfig(yearly=1))
    save(file, msgspec.structs.replace(config, vault=(vault,)), 0o640)
    return installed


def test_planned_held_applied_and_on_record(tmp_path: Path) -> None:
    """A plan with reasons, a hold that keeps one, the rest removed, all of it in the audit."""
    source = tmp_path / "source"
    source.mkdir()
    installed = _installed(tmp_path, source)
    file = installed.places.file("maintenance.toml")
    told = installed.vitrine("retention", "plan")
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("remove") == 3
    assert "the newest of its year" in told.stdout
    fates = json.loads(installed.vitrine("retention", "plan", "--json").stdout)[0]["fates"]
    with opened(file) as work:
        first = work.snapshots(work.vault("radiology"))[0].id.hex()
    assert len(fates) == 4
    assert fates[0]["snapshot"] == first, "ids as everywhere"
    assert [fate["keep"] for fate in fates] == [False, False, False, True]

    held = installed.vitrine("hold", "add", "radiology", first[:12], "--reason", "a lawsuit")
    assert held.returncode == 0, held.stderr
    assert "a lawsuit" in installed.vitrine("hold", "list", "radiology").stdout
    applied = installed.vitrine("retention", "apply", "radiology")
    assert "2 removed" in applied.stdout, applied.stdout + applied.stderr
    with opened(file) as work:
        left = work.snapshots(work.vault("radiology"))
        records = "\n".join(newest_records(work.state.audit, 30))
    assert [info.snapshot.sequence for info in left] == [1, 4]
    assert "snapshots-removed" in records
    assert "hold-added" in records
    assert "a lawsuit" not in records, "why is sealed"

    name = json.loads(installed.vitrine("hold", "list", "radiology", "--json").stdout)[0]["name"]
    ended = installed.vitrine("hold", "release", "radiology", name[:8], "--reason", "settled")
    assert ended.returncode == 0, ended.stderr
    assert "Nothing" in installed.vitrine("hold", "list", "radiology").stdout
    (source / "report").write_bytes(os.urandom(10))
    assert installed.vitrine("snapshot", "--full").returncode == 0, "the agent goes on"
    assert installed.vitrine("verify").returncode == 0


def test_held_by_the_days_on_which_they_came(tmp_path: Path) -> None:
    """Between two days, or from one on; what would hold nothing is refused."""
    source = tmp_path / "source"
    source.mkdir()
    installed = _installed(tmp_path, source)
    hold = ("hold", "add", "radiology", "--reason", "an inquiry")
    assert "is over" in installed.vitrine(*hold, "--all", "--until", "2020-01-01").stderr
    assert "no snapshot came" in installed.vitrine(*hold, "--to", "2020-01-01").stderr
    assert "name snapshots, or" in installed.vitrine(*hold, "--all", "--to", "2020-01-01").stderr
    days = installed.vitrine(*hold, "--from", "2020-01-01", "--to", "2100-01-01")
    assert "keeps 4 snapshots" in days.stdout, days.stderr
    assert installed.vitrine("retention", "plan").stdout.count("held: an inquiry") == 4
    name = json.loads(installed.vitrine("hold", "list", "radiology", "--json").stdout)[0]["name"]
    for lost in (tmp_path / "repository").rglob(name):
        lost.unlink()
    told = installed.vitrine("retention", "apply")
    assert "holds gone" in told.stdout, "no run had seen it: who made it noted it"
