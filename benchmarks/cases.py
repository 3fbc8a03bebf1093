"""The cases on the hospital-like tree: every program in turn, on the same files, in one round."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Cost, metered, settle_disk, stored_bytes
from benchmarks.results import MB, Limit, Results
from benchmarks.tool import Mounted, Tool, source_below

_IMAGES_BYTES = 500_000_000
_RECORDS = 20_000


class Size(NamedTuple):
    """How large a hospital is."""

    files: int
    bytes: int


class HospitalCases:
    """Runs rounds, each on a fresh copy of one tree."""

    def __init__(
        self, scratch: Path, size: Size, tools: Sequence[Tool], wanted: set[str], results: Results
    ) -> None:
        """Take the programs, which protect `scratch`/hospital, and the cases to measure."""
        self._scratch = scratch
        self._pristine = scratch / "pristine"
        self._tree = scratch / "hospital"
        self._size = size
        self._tools = list(tools)
        self._wanted = wanted
        self._results = results
        self._cold = False

    def generate(self) -> None:
        """Make the tree that each round copies; in a process of its own, to stay small here."""
        files, size = str(self._size.files), str(self._size.bytes)
        _python("benchmarks.hospital", str(self._pristine), "--files", files, "--bytes", size)

    def limit(self) -> Limit:
        """Return how small the tree could get; in a process of its own, as above."""
        return Limit(**json.loads(_python("benchmarks.entropy", str(self._pristine))))

    def round(self, number: int, *, cold: bool) -> None:
        """Measure every case once; programs take turns at going first."""
        self._cold = cold
        tools = self._tools if number % 2 == 0 else self._tools[::-1]
        self._copy_tree()
        for tool in tools:
            tool.create()
        stored = self._first(tools)
        self._each("unchanged", tools, lambda tool: tool.backup())
        self._each("verify", tools, lambda tool: tool.check())
        self._each("restore", tools, self._restore)
        # not before: ext4 steps over each inode that was deleted in the last minutes, so whoever
        # makes files after another's were deleted would pay for them
        for tool in tools:
            shutil.rmtree(self._restored(tool), ignore_errors=True)
        if self._wanted & {"open", "images", "records"}:
            for tool in tools:
                self._mount(tool)
        if self._wanted & {"next-day", "added"}:
            self._next_day(tools, stored, seed=number)
        shutil.rmtree(self._tree)

    def _copy_tree(self) -> None:
        """Copy with `cp`: the copy is then in the page cache, as what was just written is."""
        shutil.rmtree(self._tree, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self._pristine), str(self._tree)], check=True)

    def _each(self, case: str, tools: Sequence[Tool], act: Callable[[Tool], Cost]) -> None:
        if case in self._wanted:
            for tool in tools:
                settle_disk(cold=self._cold)
                self._results.add_cost(case, tool.name, act(tool), cold=self._cold)

    def _first(self, tools: Sequence[Tool]) -> dict[str, int]:
        """Take first snapshots; return what each stored."""
        stored = {}
        for tool in tools:
            settle_disk(cold=self._cold)
            cost = tool.backup()
            stored[tool.name] = tool.stored_bytes()
            if "first" in self._wanted:
                self._results.add_cost("first", tool.name, cost, cold=self._cold)
            if "stored" in self._wanted and not self._cold:
                self._results.add_figure(
                    "stored", tool.name, stored[tool.name] / MB, cold=self._cold
                )
        return stored

    def _next_day(self, tools: Sequence[Tool], stored: dict[str, int], seed: int) -> None:
        _python("benchmarks.next_day", str(self._tree), "--seed", str(seed))
        for tool in tools:
            settle_disk(cold=self._cold)
            cost = tool.backup()
            added = tool.stored_bytes() - stored[tool.name]
            if "next-day" in self._wanted:
                self._results.add_cost("next-day", tool.name, cost, cold=self._cold)
            if "added" in self._wanted and not self._cold:
                self._results.add_figure("added", tool.name, added / MB, cold=self._cold)

    def _restore(self, tool: Tool) -> Cost:
        """Restore, and see that all the bytes came back: a fast failure is no good figure."""
        target = self._restored(tool)
        cost = tool.restore(target)
        restored = stored_bytes(source_below(target, self._tree))
        expected = stored_bytes(self._tree)
        if restored != expected:
            raise ValueError(f"{tool.name} restored {restored} bytes of {expected}")
        return cost

    def _restored(self, tool: Tool) -> Path:
        return self._scratch / f"restored-{tool.name}"

    def _mount(self, tool: Tool) -> None:
        """Open the newest snapshot, and read from it what is wanted."""
        images = _first_files(self._tree / "pacs", _IMAGES_BYTES)
        with tool.mounted(images[0].relative_to(self._tree), cold=self._cold) as mounted:
            if "open" in self._wanted:
                self._results.add_figure("open", tool.name, mounted.opened_seconds, cold=self._cold)
            if "images" in self._wanted:
                self._read("images", tool, mounted, images)
            if "records" in self._wanted:
                records = _first_files(self._tree / "records", sys.maxsize)[:_RECORDS]
                self._read("records", tool, mounted, records)

    def _read(self, case: str, tool: Tool, mounted: Mounted, files: Sequence[Path]) -> None:
        """Have tar read files through the mount, in order; see that it got them all."""
        names = self._scratch / "names"
        names.write_bytes(b"".join(bytes(file.relative_to(self._tree)) + b"\0" for file in files))
        reader = ["tar", "--create", "--file=-", "-C", str(mounted.source)]
        reader += ["--null", f"--files-from={names}"]
        settle_disk(cold=self._cold)
        with (
            metered(mounted.pid) as meter,
            subprocess.Popen(reader, stdout=subprocess.PIPE) as tar,
        ):
            count = subprocess.run(["wc", "-c"], stdin=tar.stdout, capture_output=True, check=True)
        expected = sum(file.stat().st_size for file in files)
        if tar.returncode or int(count.stdout) < expected:
            raise ValueError(f"only {int(count.stdout)} of {expected} bytes came from {tool.name}")
        self._results.add_cost(case, tool.name, meter.cost, cold=self._cold)


def _first_files(directory: Path, size: int) -> list[Path]:
    """Return files below a directory, in order of their paths, until they have `size` bytes."""
    chosen, total = [], 0
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if total >= size:
            break
        chosen.append(path)
        total += path.stat().st_size
    return chosen


def _python(module: str, *arguments: str) -> str:
    """Run one of our modules; return what it printed."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", module, *arguments]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return said.stdout
