"""`vitrine maintain`: every job of the day, and one that fails keeps no other from running."""

import json
from pathlib import Path

from agent.audit.files import newest_records
from agent.maintained import opened
from agent.repository import layout
from tests.e2e.test_drill import Installed


def test_the_days_jobs_run_and_one_that_fails_is_told(tmp_path: Path) -> None:
    """Clean at first; with a damaged hold retention fails, prune still runs, the status says so."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "report").write_bytes(b"report")
    installed = Installed(tmp_path, source)
    assert installed.vitrine("snapshot", "--full").returncode == 0
    ran = installed.vitrine("maintain")
    assert ran.returncode == 0, ran.stderr
    assert "retention: done" in ran.stdout
    assert "prune: done" in ran.stdout

    with opened(installed.places.file("maintenance.toml")) as work:
        vault = work.vault("radiology").vault
        work.store.put(layout.hold(vault, b"\1" * 16), [b"no hold"])
    ran = installed.vitrine("maintain", "--json")
    assert ran.returncode == 14, ran.stdout + ran.stderr
    jobs = {one["job"]: one["ok"] for one in json.loads(ran.stdout)}
    assert jobs["retention"] is False
    assert jobs["prune"] is True
    with opened(installed.places.file("maintenance.toml")) as work:
        assert "maintenance-failed" in "\n".join(newest_records(work.state.audit, 20))
