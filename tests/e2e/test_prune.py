"""`vitrine prune` on a founded installation: on the record, and said plainly."""

import json
import os
from pathlib import Path

from agent.audit.files import newest_records
from agent.maintained import opened
from tests.e2e.test_drill import Installed
from tests.fakes.removing import remove


def test_prune_says_what_waits_and_records_it(tmp_path: Path) -> None:
    """Nothing to do at first; after a removal something is noted, and the audit has the counts."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "report").write_bytes(os.urandom(50_000))
    installed = Installed(tmp_path, source)
    installed.vitrine("snapshot", "--full")
    (source / "report").write_bytes(os.urandom(50_000))
    installed.vitrine("snapshot", "--full")
    ran = installed.vitrine("prune")
    assert ran.returncode == 0, ran.stderr
    assert "0 noted" in ran.stdout

    with opened(installed.places.file("maintenance.toml")) as work:
        keys = work.vault("radiology")
        remove(work.store, work.secrets(keys), work.snapshots(keys)[:1])
    told = installed.vitrine("prune", "--dry-run", "--json")
    assert json.loads(told.stdout)[0]["noted"] > 0, told.stderr
    ran = installed.vitrine("prune", "radiology")
    assert " noted, " in ran.stdout, ran.stderr
    assert "the next is condemned in 14 days" in ran.stdout
    assert "the next is deleted in 21 days" in ran.stdout
    with opened(installed.places.file("maintenance.toml")) as work:
        records = "\n".join(newest_records(work.state.audit, 10))
    assert "packs-pruned" in records
    assert installed.vitrine("prune", "nowhere").returncode == 62
