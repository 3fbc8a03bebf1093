"""Vitrine by its command line, as an administrator and a doctor would use it."""

import base64
import compileall
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.cli.place import ask_agent
from agent.control.agent_messages import AgentStatus, AskAgentStatus
from agent.crypto.totp import STEP_S, Token
from agent.errors import ServiceNotRunning
from benchmarks.measure import CommandFailed, Cost, run, settle_disk, stored_bytes
from benchmarks.tool import Mounted

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("agent", "fsdriver")
_PATIENCE_S = 300.0
_POLL_S = 0.002
_VAULT = "radiology"
_ROLES = ("it-administrator", "doctor")  # one person: nobody else has to be on this machine


class Vitrine:
    """One repository of one source, with configuration and state beside it."""

    name = "vitrine"

    def __init__(self, directory: Path, source: Path, settle_seconds: float) -> None:
        """Take a directory for everything."""
        self.settle_seconds = settle_seconds
        self._directory = directory
        self._source = source
        self._repository = directory / "repository"
        self._config = directory / "etc"
        self._token: Token | None = None
        self._last_step = 0

    def create(self) -> None:
        """Make a repository with one vault and one person."""
        _compile_code()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        for name in ("recovery", "password"):
            self._file(name).write_text(secrets.token_urlsafe(18))
        said = self._say(
            "init", str(self._repository), "--vault", _VAULT, "--department", "Radiology",
            "--source", str(self._source), "--passphrase-file", str(self._file("recovery")),
            "--administrator", "benchmark", "--administrator-uid", str(os.geteuid()),
            *(part for role in _ROLES for part in ("--administrator-role", role)),
            "--password-file", str(self._file("password")),
            "--settle-seconds", str(self.settle_seconds), "--json",
        )  # fmt: skip
        self._token = Token(base64.b32decode(json.loads(said)["administrator"]["secret"]))
        self._last_step = 0

    def backup(self) -> Cost:
        """Take a snapshot without a daemon: everything is looked at."""
        return self._run("snapshot", "--full")

    def check(self) -> Cost:
        """Verify every object, data included."""
        return self._run("verify", "--read-data")

    @property
    def maintenance_file(self) -> Path:
        """Where maintenance is configured."""
        return self._config / "maintenance.toml"

    def prune(self, *options: str) -> Cost:
        """Prune, or say what would go."""
        return self._run("prune", *options)

    def restore(self, target: Path) -> Cost:
        """Recover with the passphrase alone: no gate in the way, as restic has none."""
        command = [
            "recover", str(self._repository), "--vault", _VAULT,
            "--passphrase-file", str(self._file("recovery")), "--target", str(target),
        ]  # fmt: skip
        target.mkdir()
        return run(_vitrine(*command), cwd=_ROOT)

    def stored_bytes(self) -> int:
        """Return the repository's size, without the agent's local state."""
        return stored_bytes(self._repository)

    @contextmanager
    def mounted(self, sample: Path, *, cold: bool) -> Iterator[Mounted]:
        """Run the services and unlock; the time counts from the command `vitrine unlock`."""
        with self.running() as pid:
            code = self._next_code()
            settle_disk(cold=cold)
            began = time.monotonic()
            said = self._say(
                "unlock", _VAULT, "--password-file", str(self._file("password")),
                "--otp", code, "--json",
            )  # fmt: skip
            source = Path(json.loads(said)["path"]) / "latest" / self._source.name
            with (source / sample).open("rb") as file:
                if not file.read(1):
                    raise CommandFailed("the mounted file is empty")
            opened = time.monotonic() - began
            try:
                yield Mounted(source, opened, pid)
            finally:
                self._say("lock")

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run `vitrine up` meanwhile; yield its process id once the first scan is done."""
        with (self._directory / "up.log").open("wb") as log:
            command = _vitrine("up", "--config-dir", str(self._config))
            process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_watching(process)
            yield process.pid
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)

    def snapshots_stored(self) -> int:
        """Return how many snapshot objects the repository holds."""
        return sum(1 for path in (self._repository / "snapshots").rglob("*") if path.is_file())

    def check_nothing_waits(self) -> None:
        """Have the running daemon scan everything; raise if its last snapshot had missed any."""
        (taken,) = json.loads(self._say("snapshot", "--full", "--json"))["taken"]
        if taken["id"]:
            raise CommandFailed("the daemon's snapshot had missed a change")

    def wait_for_snapshot(self, count: int) -> float:
        """Return the monotonic time at which the repository held `count` snapshots."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self.snapshots_stored() >= count:
                return time.monotonic()
            time.sleep(_POLL_S)
        raise TimeoutError("the agent took no snapshot")

    def _wait_until_watching(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                status = ask_agent(self._config, AskAgentStatus(), AgentStatus)
            except ServiceNotRunning:
                status = None
            if status and all(s.state == "watching" and s.last_snapshot_ns for s in status.sources):
                return
            time.sleep(_POLL_S * 25)
        said = (self._directory / "up.log").read_text(errors="replace")[-2000:]
        raise CommandFailed(f"`vitrine up` does not watch:\n{said}")

    def _next_code(self) -> str:
        """Return a code that was not used yet; wait for one where needed: each works once."""
        if self._token is None:
            raise ValueError("the repository has to be created first")
        step = max(int(time.time() // STEP_S) - 1, self._last_step + 1)
        while int(time.time() // STEP_S) + 1 < step:
            time.sleep(0.1)
        self._last_step = step
        return self._token.code(step * STEP_S * 1_000_000_000)

    def _run(self, *arguments: str) -> Cost:
        return run(_vitrine(*arguments, "--config-dir", str(self._config)), cwd=_ROOT)

    def _say(self, *arguments: str) -> str:
        """Return what a command printed; what is not measured goes this way."""
        command = _vitrine(*arguments, "--config-dir", str(self._config))
        said = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if said.returncode:
            raise CommandFailed(f"`vitrine {arguments[0]}`: {said.stderr}")
        return said.stdout

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.secret"


def _compile_code() -> None:
    """Have our code compiled, as pip does for what it installs and the peers come compiled.

    A checkout is not where $PYTHONDONTWRITEBYTECODE is set: every command would do it anew.
    """
    for package in _PACKAGES:
        if not compileall.compile_dir(_ROOT / package, quiet=1):
            raise CommandFailed(f"{package} does not compile")


def _vitrine(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent.cli", *arguments]
