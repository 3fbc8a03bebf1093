"""The benchmarks run: on tiny trees, whose figures mean nothing, every case is measured."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.results import CASES

ROOT = Path(__file__).parents[2]
PATIENCE_S = 1200  # it takes one minute here
ROW = re.compile(
    r"^\| (?P<title>[^|]+) \| (?P<ours>[^|]+) \| (?P<restic>[^|]+) \| (?P<borg>[^|]+) \|",
    re.MULTILINE,
)


@pytest.mark.slow
@pytest.mark.fuse
@pytest.mark.service("restic", "borg")
def test_every_case_is_measured_for_every_program_and_nothing_is_left(tmp_path: Path) -> None:
    """`make bench` keeps working: a benchmark nobody runs for a month does not rot."""
    report = tmp_path / "report.md"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(report)]
    with tempfile.TemporaryDirectory(prefix="b-") as scratch:  # short: sockets lie below it
        subprocess.run([*command, "--scratch", scratch], cwd=ROOT, check=True, timeout=PATIENCE_S)
        assert not list(Path(scratch).iterdir())
    rows = {row["title"]: row for row in ROW.finditer(report.read_text())}
    for case in CASES:
        row = rows[f"{case.title}, {case.unit}"]
        assert all(float(row[program]) >= 0 for program in ("ours", "restic", "borg"))
