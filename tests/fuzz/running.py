"""Runs targets in processes of their own: seeds, limits, and what came of it."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.registry import target

MEMORY_MIB = 256  # of a whole process: no decoder of hostile bytes may need more
UNIT_SECONDS = 20  # of one input, on a busy machine: more is a hang
ROOT = Path(__file__).parents[2]
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_PEAK = re.compile(r"^stat::peak_rss_mb:\s*(\d+)", re.MULTILINE)
_TOLD = 6000  # characters of a failed run's last words
_TOLD_INPUT = 4096  # bytes of an input: larger ones are kept by `make fuzz` with their corpus
# The kernel counts what its parent took to a process's peak, and libFuzzer goes by the peak: a
# shell in between keeps what hundreds of tests have taken out of it.
_SMALL_PARENT = ("/bin/sh", "-c", '"$0" "$@"; exit $?')


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run: `finding` is the input that broke it, or None."""

    target: str
    seed: int
    executions: int
    peak_mib: int
    status: int
    finding: bytes | None
    said: str

    @property
    def is_clean(self) -> bool:
        """Tell whether it ran to its end and found nothing."""
        return self.status == 0 and self.finding is None and self.executions > 0

    def __str__(self) -> str:
        """Return a line, or with a finding all that is needed to repeat it."""
        line = f"{self.target}: {self.executions} executions, {self.peak_mib} MiB, seed {self.seed}"
        if self.is_clean:
            return line
        found = self.finding[:_TOLD_INPUT].hex() if self.finding is not None else "none"
        return f"{line}, status {self.status}\n{self.said[-_TOLD:]}\ninput: {found}"


def fuzz(name: str, *, seconds: int, seed: int, corpus: Path | None = None) -> Result:
    """Run one target for so long, from its seeds and what `corpus` has collected before."""
    with tempfile.TemporaryDirectory(prefix="vitrine-fuzz-") as scratch:
        place = Path(scratch)
        seeds, grown, temporary = place / "seeds", corpus or place / "corpus", place / "tmp"
        for directory in (seeds, grown, temporary):
            directory.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(target(name).seeds()):
            (seeds / str(number)).write_bytes(data)
        ended = subprocess.run(
            [
                *_SMALL_PARENT, sys.executable, "-m", "tests.fuzz.child",
                name, str(grown), str(seeds),
                f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={place}/",
                f"-max_len={target(name).max_bytes}", f"-rss_limit_mb={MEMORY_MIB}",
                f"-timeout={UNIT_SECONDS}", "-print_final_stats=1",
            ],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # libFuzzer speaks on one, the interpreter on the other
            check=False,
        )  # fmt: skip
        said = ended.stdout.decode(errors="replace")
        found = [path.read_bytes() for path in sorted(place.glob("*-*")) if path.is_file()]
    executed, peak = _EXECUTED.search(said), _PEAK.search(said)
    return Result(
        target=name,
        seed=seed,
        executions=int(executed[1]) if executed else 0,
        peak_mib=int(peak[1]) if peak else 0,
        status=ended.returncode,
        finding=found[0] if found else None,
        said=said,
    )
