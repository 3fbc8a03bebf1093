"""The third way to heal, end to end: packs are put aside, and the live source has it still."""

import json
from pathlib import Path

from tests.e2e.test_second_copy import Hospital


def test_the_live_source_heals_what_neither_parity_nor_a_copy_does(tmp_path: Path) -> None:
    """Lost is said with status 14; then dropped, read again, and every file is as it was."""
    hospital = Hospital(tmp_path)
    hospital.damage(600)
    hospital.done("repair", status=14)
    hospital.done("snapshot", "--full")  # by its journal the agent takes all for stored
    hospital.done("verify", "--contents", "radiology", status=14)

    dropped = json.loads(hospital.done("repair", "--drop-damaged", "--json"))
    assert len(dropped["repair"]["put_aside"]) == 1
    assert dropped["repair"]["lost"] == []
    hospital.done("verify", "--contents", "radiology", status=14)

    assert "2.8 MB were missing: stored again" in hospital.done("snapshot", "--reread")
    assert "Every file is as it was backed up" in hospital.done("verify", "--contents", "radiology")
    assert "Everything is as it should be" in hospital.done("verify", "--read-data")
    assert "Nothing is damaged" in hospital.done("repair")
    assert '"put_aside":1' in hospital.records()
