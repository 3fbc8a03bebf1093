"""What a command or a running service costs: seconds, processor time, peak memory.

Linux only: proc(5) and wait4(2) tell all of it without another program.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_CPU_FIELDS = slice(11, 15)  # utime, stime, cutime, cstime of stat, counted after the name
_TOLD = 2_000  # characters of what a failed command said


class Cost(NamedTuple):
    """What one act cost."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int  # the sum of what each process took at its own peak
    largest_bytes: int  # the largest of them


class CommandFailed(Exception):
    """A command that is measured did not succeed, so its figures mean nothing."""


def run(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end; raise CommandFailed with what it said if it fails.

    Processor time is that of the command and of every child it waited for; memory is that of the
    largest of them: no program measured here takes more in several at once (docs/restore.md).
    """
    env = {**os.environ, **(environment or {})}
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = said.decode(errors="replace")[-_TOLD:]
        raise CommandFailed(f"status {process.returncode} of {' '.join(command)}:\n{end}")
    peak = usage.ru_maxrss * 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak, peak)


class Meter:
    """Measures what happens in a `with` block; `cost` is there once it has ended."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.cost = Cost(0.0, 0.0, 0, 0)


@contextmanager
def metered(pid: int) -> Iterator[Meter]:
    """Measure a service, this process and all its descendants, while something uses it."""
    meter = Meter()
    cpu, began = _cpu_seconds(pid), time.monotonic()
    yield meter
    seconds = time.monotonic() - began
    peaks = [_peak_bytes(process) for process in descendants(pid)]
    meter.cost = Cost(seconds, _cpu_seconds(pid) - cpu, sum(peaks), max(peaks, default=0))


def descendants(pid: int) -> list[int]:
    """Return the process and everything below it that lives."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
    return found


def _cpu_seconds(pid: int) -> float:
    """Return what the tree has used, with children that ended and were waited for."""
    ticks = 0
    for process in descendants(pid):
        stat = _read(process, "stat")
        ticks += sum(map(int, stat.rpartition(")")[2].split()[_CPU_FIELDS]))
    return ticks / _TICKS


def _peak_bytes(pid: int) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended meanwhile


def settle_disk(*, cold: bool) -> None:
    """Have everything written, so that nobody pays for another; if `cold`, forget what was read."""
    os.sync()
    if cold:
        _DROP_CACHES.write_text("3")


def can_drop_caches() -> bool:
    """Tell whether cold figures can be had here."""
    return os.access(_DROP_CACHES, os.W_OK)


def stored_bytes(directory: Path) -> int:
    """Return the sum of all files' lengths below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
