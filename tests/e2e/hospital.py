"""A whole Vitrine installation for a test: founded, run and asked through the command line."""

import base64
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from agent.backup.read import pause
from agent.cli import recover, restore, sessions, snapshot, status
from agent.cli.demo_hospital import PRELOADED
from agent.cli.people import Said, vitrine_as
from agent.clock import SystemClock
from agent.config import AgentConfig, GateConfig, load, save
from agent.crypto.secrets import VaultSecrets
from agent.crypto.totp import STEP_S, Token
from agent.errors import VitrineError
from agent.model.snapshot import SnapshotInfo
from agent.repository.vaults import secrets_by_passphrase
from agent.store.local import LocalStore
from tests.fakes.vaults import is_current, open_reader, snapshots

VAULT, DEPARTMENT = "radiology", "Radiology"
SETTLE_S = 1.0
PATIENCE_S = 120.0  # for what should take a second or two: no test waits for all of it
A_MOMENT_S = 0.005  # how long what is to be stopped in its midst runs between two looks
# a child that has become another user can import nothing any more
NEEDED_BY_CHILDREN = (*PRELOADED, recover, restore, sessions, snapshot, status)
_NS = 1_000_000_000
_PROGRAM = (sys.executable, "-m", "agent.cli")


class Unlocked(msgspec.Struct):
    """What `vitrine unlock --json` says, as far as a test asks."""

    path: str
    snapshot: str
    complete: bool


class Person:
    """A user with a password and a token."""

    def __init__(self, name: str, uid: int, password: Path) -> None:
        """Take the file that holds the password."""
        self.name = name
        self.uid = uid
        self.password = password
        self._token = Token(bytes(20))
        self._codes: list[str] = []
        self._last_step = 0

    def enrol(self, added: dict[str, Any]) -> None:
        """Keep the token and the recovery codes that were shown once."""
        self._token = Token(base64.b32decode(added["secret"]))
        self._codes = list(added["recovery_codes"])

    def code(self) -> str:
        """Return a code that is good and was not used: of this step, the next, or a recovery's.

        Where none is left, that of the next step but one is waited for.
        """
        step = max(_present_step(), self._last_step + 1)
        while step > _present_step() + 1:
            if self._codes:
                return self._codes.pop()
            pause(0.1)
        self._last_step = step
        return self._token.code(step * STEP_S * _NS)

    def factors(self) -> list[str]:
        """Return the options that prove who it is, once."""
        return ["--password-file", str(self.password), "--otp", self.code()]


class Installation:
    """One vault in one repository, below a directory of its own."""

    def __init__(self, directory: Path, *sources: Path) -> None:
        """Take a directory with a short path (Unix sockets lie in it), and what is protected."""
        self.directory = directory
        self.sources = sources
        self.config = directory / "etc"
        self.repository = directory / "repository"
        self.passphrase = self._secret("recovery")
        self.admin = self._person("admin", os.geteuid())
        self._opened: VaultSecrets | None = None

    # -- founding -------------------------------------------------------------------------------

    def found(self, *roles: str) -> None:
        """Run `vitrine init`; the administrator is who runs the test."""
        said = self.vitrine(
            "init", str(self.repository), "--vault", VAULT, "--department", DEPARTMENT,
            *(part for source in self.sources for part in ("--source", str(source))),
            *(part for role in roles for part in ("--administrator-role", role)),
            "--passphrase-file", str(self.passphrase), "--administrator", self.admin.name,
            "--administrator-uid", str(self.admin.uid),
            "--password-file", str(self.admin.password),
            "--settle-seconds", str(SETTLE_S), "--json",
        )  # fmt: skip
        self.admin.enrol(msgspec.json.decode(said.output)["administrator"])

    def add(self, name: str, uid: int, role: str) -> Person:
        """Run `vitrine user add` as the administrator."""
        person = self._person(name, uid)
        said = self.vitrine(
            "user", "add", name, "--uid", str(uid), "--role", role, "--department", DEPARTMENT,
            "--password-file", str(person.password),
            "--admin-password-file", str(self.admin.password),
            "--admin-otp", self.admin.code(), "--json",
        )  # fmt: skip
        person.enrol(msgspec.json.decode(said.output))
        return person

    def configure_agent(self, **changes: object) -> None:
        """Change agent.toml; counts from the next start."""
        path = self.config / "agent.toml"
        save(path, msgspec.structs.replace(load(path, AgentConfig), **changes), 0o640)

    def configure_gate(self, **changes: object) -> None:
        """Change gate.toml; counts from the next start."""
        path = self.config / "gate.toml"
        save(path, msgspec.structs.replace(load(path, GateConfig), **changes), 0o640)

    # -- running --------------------------------------------------------------------------------

    @contextmanager
    def up(self) -> Iterator["Running"]:
        """Run `vitrine up` meanwhile; it has to end by itself when asked to."""
        with self._process("up", "--config-dir", str(self.config)) as process:
            self.wait_until(self._is_up, "`vitrine up` answers", process)
            yield Running(process)

    @contextmanager
    def agent_alone(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run `vitrine agent` meanwhile."""
        with self._process("agent", "--config", str(self.config / "agent.toml")) as process:
            yield process

    @property
    def log(self) -> str:
        """What all services said so far."""
        return (self.directory / "log").read_text(errors="replace")

    def wait_until(
        self,
        truth: Callable[[], object],
        what: str,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Return once `truth` holds; fail after PATIENCE_S, or when `process` has ended."""
        deadline = SystemClock().monotonic() + PATIENCE_S
        while not truth():
            assert process is None or process.poll() is None, f"ended before {what}: {self.log}"
            assert SystemClock().monotonic() < deadline, f"never came: {what}: {self.log}"
            pause(0.1)

    def stop_once(
        self, truth: Callable[[], object], what: str, process: subprocess.Popen[bytes]
    ) -> None:
        """Stop `process` (SIGSTOP) once `truth` holds: it runs for A_MOMENT_S between two looks."""
        deadline = SystemClock().monotonic() + PATIENCE_S
        _stop(process)
        while not truth():
            assert process.poll() is None, f"ended before {what}: {self.log}"
            assert SystemClock().monotonic() < deadline, f"never came: {what}: {self.log}"
            process.send_signal(signal.SIGCONT)
            pause(A_MOMENT_S)
            _stop(process)

    def wait_until_protected(self) -> SnapshotInfo:
        """Return the newest snapshot, once it shows every source as it is.

        How many it took does not matter: whoever is slow to change things gets one more.
        """
        self.wait_until(self._is_protected, "a snapshot of the last change")
        return self.snapshots()[-1]

    def wait_for_snapshot(self, number: int) -> list[SnapshotInfo]:
        """Return the snapshots once there are `number`."""
        self.wait_until(lambda: len(self.snapshots()) >= number, f"snapshot {number}")
        return self.snapshots()

    def standings(self) -> list[dict[str, Any]]:
        """Return what `vitrine status` says of the sources; nothing while no agent answers."""
        said = self.ask(os.geteuid(), "status", "--json")
        found = msgspec.json.decode(said.output)["agent"].get("sources", [])
        return msgspec.convert(found, list[dict[str, Any]])

    # -- asking ---------------------------------------------------------------------------------

    def ask(self, uid: int, *arguments: str) -> Said:
        """Run a `vitrine` command as `uid`, whatever comes of it."""
        return vitrine_as(uid, [*arguments, "--config-dir", str(self.config)])

    def vitrine(self, *arguments: str) -> Said:
        """Run a `vitrine` command as who runs the test; it has to succeed."""
        said = self.ask(os.geteuid(), *arguments)
        assert said.status == 0, f"{arguments[0]}: {said.errors}"
        return said

    def unlock(self, person: Person) -> Unlocked:
        """Run `vitrine unlock` as the person; it has to succeed."""
        said = self.ask(person.uid, "unlock", VAULT, *person.factors(), "--json")
        assert said.status == 0, said.errors
        return msgspec.json.decode(said.output, type=Unlocked)

    def recover(self, target: Path, *arguments: str) -> None:
        """Run `vitrine recover` into a new directory: repository and passphrase alone."""
        target.mkdir()
        said = vitrine_as(os.geteuid(), [
            "recover", str(self.repository), "--vault", VAULT,
            "--passphrase-file", str(self.passphrase), "--target", str(target), *arguments,
        ])  # fmt: skip
        assert said.status == 0, said.errors

    def audit(self) -> list[dict[str, Any]]:
        """Return the newest audit records."""
        said = self.vitrine("audit", "show", "--count", "1000", "--json")
        return msgspec.json.decode(said.output, type=list[dict[str, Any]])

    # -- looking inside -------------------------------------------------------------------------

    def secrets(self) -> VaultSecrets:
        """Return what the recovery passphrase opens."""
        if self._opened is None:
            with self._store() as store:
                passphrase = self.passphrase.read_text().strip()
                self._opened = secrets_by_passphrase(store, VAULT, passphrase)
        return self._opened

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots in the repository, the chain verified."""
        opened = self.secrets()
        with self._store() as store:
            return snapshots(store, opened)

    @contextmanager
    def _store(self) -> Iterator[LocalStore]:
        store = LocalStore(self.repository)
        try:
            yield store
        finally:
            store.close()

    def store(self) -> LocalStore:
        """Return the repository's storage; the caller closes it."""
        return LocalStore(self.repository)

    # -- privately ------------------------------------------------------------------------------

    def _is_up(self) -> bool:
        return "Vitrine is up" in self.log[self._log_from :]

    def _is_protected(self) -> bool:
        taken, opened = self.snapshots(), self.secrets()
        if not taken:
            return False
        with self._store() as store:
            reader = open_reader(store, opened, self.directory / "index-of-the-test")
            trees = {top.origin: top.tree for top in reader.entries(taken[-1].snapshot.root)}
            return all(
                os.fsencode(source) in trees
                and is_current(reader, trees[os.fsencode(source)], os.fsencode(source))
                for source in self.sources
            )

    @contextmanager
    def _process(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        path = self.directory / "log"
        self._log_from = len(self.log) if path.exists() else 0
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with path.open("ab") as log:
            process = subprocess.Popen(
                [*_PROGRAM, *arguments],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.send_signal(signal.SIGCONT)  # a test may have failed while it was stopped
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def _person(self, name: str, uid: int) -> Person:
        return Person(name, uid, self._secret(name))

    def _secret(self, name: str) -> Path:
        path = self.directory / f"{name}.secret"
        path.write_text(secrets.token_urlsafe(18) + "\n")
        path.chmod(0o644)  # those who read it have no home of their own
        return path


class Running:
    """`vitrine up` and the services below it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take the running command."""
        self.process = process

    def pid(self, service: str) -> int:
        """Return the process of "agent", "gate" or "launcher"."""
        for pid in _children(self.process.pid):
            if service.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        raise VitrineError(f"no {service} below `vitrine up`")

    def hang_up(self, service: str) -> None:
        """Send SIGHUP to a service, as `systemctl reload` does."""
        os.kill(self.pid(service), signal.SIGHUP)

    @contextmanager
    def held(self, service: str) -> Iterator[None]:
        """Keep a service from running meanwhile, so that it finds all that is done inside at once.

        However long that takes: a machine may be slow, or do other things.
        """
        pid = self.pid(service)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Return once all threads of a child have stopped, or it has ended."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _present_step() -> int:
    return SystemClock().now_ns() // (STEP_S * _NS)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_mounted(path: str) -> bool:
    """Tell whether a file system is mounted at `path`, without touching it."""
    return path in mounts_below(Path("/"))


def mounts_below(directory: Path) -> list[str]:
    """Return where file systems are mounted below `directory`, deepest first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    found = [line.split()[1] for line in lines]
    prefix = str(directory).rstrip("/") + "/"
    return sorted((path for path in found if path.startswith(prefix)), key=len, reverse=True)


def unmount_all(directory: Path) -> None:
    """Unmount what a failed test left below `directory`."""
    for path in mounts_below(directory):
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)
