"""The demo's hospital: a PACS directory of real files, its people, and its Vitrine."""

import base64
import errno
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pydicom
import pydicom.data
import trio

from agent.cli import audit, browse, place, snapshots, unlock, users
from agent.cli.people import Said, as_user, become, vitrine_as
from agent.clock import SystemClock
from agent.control.gate_messages import SnapshotLine, Snapshots, Unlocked, UserAdded
from agent.crypto.naming import object_name
from agent.crypto.totp import STEP_S, Token
from agent.errors import VitrineError

DOCTOR, COLLEAGUE = 65_001, 65_002  # uids that no account of a Debian machine has
PATIENCE_S = 60.0
SETTLE_S = 1.0  # 5 by default; a demo's audience is less patient than a PACS
_DICM_AT, _DICM = 128, b"DICM"
_CHANGING = "CT_small.dcm"
_READY, _GO = b"r", b"g"
# what a child needs after it has become another user, who may not read the interpreter's files
PRELOADED = (audit, browse, place, snapshots, tomllib, unlock, users)


class Hospital:
    """Everything lies below one scratch directory."""

    def __init__(self, directory: Path) -> None:
        """Take an empty directory."""
        self.directory = directory
        self.pacs = directory / "pacs"
        self.config = directory / "etc"
        self.is_root = os.geteuid() == 0
        self.mount = Path()
        self.original = b""
        self.changing = Path()
        self._doctor = DOCTOR if self.is_root else os.geteuid()
        for name in ("admin", "doctor", "recovery"):
            self._make_secret(name)
        self._tokens: dict[str, Token] = {}
        self._last_step: dict[str, int] = {}

    def fill(self) -> tuple[int, int]:
        """Copy pydicom's DICOM files in the way Orthanc lays them out; return count and bytes."""
        count = total = 0
        for path in sorted(Path(pydicom.data.__file__).parent.rglob("*")):
            if path.is_file() and path.read_bytes()[_DICM_AT:][:4] == _DICM:
                name = hashlib.sha1(bytes(path), usedforsecurity=False).hexdigest()
                target = self.pacs / name[:2] / name[2:4] / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                if path.name == _CHANGING:
                    self.changing = target
                count, total = count + 1, total + target.stat().st_size
        return count, total

    def found(self) -> None:
        """Run `vitrine init`, as an administrator would."""
        said = self.vitrine(
            "init", str(self.directory / "repository"), "--vault", "radiology",
            "--department", "Radiology", "--source", str(self.pacs),
            "--passphrase-file", str(self._file("recovery")),
            "--administrator", "admin", "--administrator-uid", str(os.geteuid()),
            "--password-file", str(self._file("admin")), *self._roles(),
            "--settle-seconds", str(SETTLE_S), "--json",
        )  # fmt: skip
        added = msgspec.json.decode(said.output, type=_Founded).administrator
        self._tokens["admin"] = _token(added.secret)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run `vitrine up` meanwhile."""
        log = (self.directory / "up.log").open("wb")
        command = [sys.executable, "-m", "agent.cli", "up", "--config-dir", str(self.config)]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield
        except BaseException:
            sys.stderr.write((self.directory / "up.log").read_text())
            raise
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            log.close()

    def wait_for_snapshots(self, count: int) -> tuple[SnapshotLine, ...]:
        """Return the snapshots once there are `count`."""
        problem = "none yet"
        deadline = SystemClock().monotonic() + PATIENCE_S
        while SystemClock().monotonic() < deadline:
            said = vitrine_as(os.geteuid(), self._with_config("snapshots", "radiology", "--json"))
            if said.status == 0:
                lines = msgspec.json.decode(said.output, type=Snapshots).snapshots
                if len(lines) >= count:
                    return lines
            problem = said.errors.strip() or problem
            trio.run(trio.sleep, 0.2)
        raise VitrineError(f"no snapshot number {count} within {PATIENCE_S:.0f} s: {problem}")

    def add_doctor(self) -> None:
        """Run `vitrine user add`, proving the administrator's factors."""
        if not self.is_root:
            self._tokens["doctor"] = self._tokens["admin"]
            shutil.copyfile(self._file("admin"), self._file("doctor"))
            return
        said = self.vitrine(
            "user", "add", "doctor", "--role", "doctor", "--department", "Radiology",
            "--uid", str(DOCTOR), "--password-file", str(self._file("doctor")),
            "--admin-password-file", str(self._file("admin")),
            "--admin-otp", self._code("admin"), "--json",
        )  # fmt: skip
        secret = msgspec.json.decode(said.output, type=UserAdded).secret
        self._tokens["doctor"] = _token(secret)

    def doctor_code(self) -> str:
        """Return a code of the doctor's token that was not used yet."""
        return self._code("doctor")

    def unlock(self, uid: int, code: str) -> Said:
        """Run `vitrine unlock` as `uid`, with the doctor's password."""
        password = self._file("doctor")
        arguments = ("unlock", "radiology", "--password-file", str(password), "--otp", code)
        who = uid if self.is_root else self._doctor
        return vitrine_as(who, self._with_config(*arguments, "--json"))

    def note_mount(self, said: Said) -> None:
        """Remember where `vitrine unlock` said that the mount is."""
        self.mount = Path(msgspec.json.decode(said.output, type=Unlocked).path)

    def both_versions(self) -> tuple[bytes, bytes]:
        """Return the file's digests in the first and the last snapshot, as the doctor reads."""
        inner = Path("pacs") / self.changing.relative_to(self.pacs)
        first = self.wait_for_snapshots(2)[0]
        old = self.mount / "snapshots" / first.id[:12] / inner
        new = self.mount / "latest" / inner
        return as_user(self._doctor, lambda: (_digest(old), _digest(new)))

    def lock_while_reading(self) -> tuple[int, int]:
        """Lock while a process of the doctor's has a file open: its errno before and after."""
        path = self.mount / "latest" / "pacs" / self.changing.relative_to(self.pacs)
        ours, theirs = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            become(self._doctor)
            _read_twice(path, ours[1], theirs[0])
        _expect_byte(ours[0], _READY)
        said = vitrine_as(self._doctor, self._with_config("lock"))
        if said.status:
            raise VitrineError(f"`vitrine lock` failed: {said.errors}")
        os.write(theirs[1], _GO)
        before, after = os.read(ours[0], 2)
        os.waitpid(child, 0)
        for end in (*ours, *theirs):
            os.close(end)
        return before, after

    def audit_lines(self) -> list[str]:
        """Return the last records, a line each."""
        said = self.vitrine("audit", "show", "--count", "8", "--json")
        records = msgspec.json.decode(said.output)
        return [f"{r['seq']:>4}  {r['event']:<18} {r['outcome']:<8} {r['actor']}" for r in records]

    def recover(self) -> Path:
        """Run `vitrine recover` into an empty directory, and return it."""
        target = self.directory / "recovered"
        target.mkdir()
        repository, passphrase = self.directory / "repository", self._file("recovery")
        self.vitrine(
            "recover", str(repository), "--vault", "radiology",
            "--passphrase-file", str(passphrase), "--target", str(target), configured=False,
        )  # fmt: skip
        return target

    def vitrine(self, *arguments: str, configured: bool = True) -> Said:
        """Run a `vitrine` command as whoever runs the demo; raise VitrineError if it fails."""
        full = self._with_config(*arguments) if configured else list(arguments)
        said = vitrine_as(os.geteuid(), full)
        if said.status:
            raise VitrineError(f"`vitrine {arguments[0]}` failed: {said.errors.strip()}")
        return said

    def _roles(self) -> list[str]:
        """Without root there is one person, who is both administrator and doctor."""
        roles = ["it-administrator", "auditor", *(() if self.is_root else ("doctor",))]
        return [part for role in roles for part in ("--administrator-role", role)]

    def _with_config(self, *arguments: str) -> list[str]:
        return [*arguments, "--config-dir", str(self.config)]

    def _code(self, who: str) -> str:
        """Return the code of the first step that was not used, within the window of one."""
        step = SystemClock().now_ns() // (STEP_S * 1_000_000_000)
        step = max(step - 1, self._last_step.get(who, 0) + 1)
        self._last_step[who] = step
        return self._tokens[who].code(step * STEP_S * 1_000_000_000)

    def _make_secret(self, name: str) -> None:
        self._file(name).write_text(secrets.token_urlsafe(18) + "\n")
        self._file(name).chmod(0o644)  # the demo's doctor is no account with a home of its own

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.secret"


class _Founded(msgspec.Struct):
    administrator: UserAdded


def _token(secret: str) -> Token:
    return Token(base64.b32decode(secret))


def rename_patient(path: Path) -> None:
    """Replace a file by one with another patient's name, as a PACS does: new file, then rename."""
    dataset = pydicom.dcmread(path)
    dataset.PatientName = "Corrected^Name"
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        dataset.save_as(file)
    Path(file.name).replace(path)


def _digest(path: Path) -> bytes:
    return object_name(path.read_bytes())


def _read_twice(path: Path, tell: int, wait: int) -> None:
    """Read, say so, wait, read again through the same descriptor; answer two errnos and end."""
    file = os.open(path, os.O_RDONLY)
    first = _errno_of_read(file)
    os.write(tell, _READY)
    os.read(wait, 1)
    os.write(tell, bytes((first, _errno_of_read(file))))
    os._exit(0)


def _errno_of_read(file: int) -> int:
    try:
        os.pread(file, 4096, 0)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _expect_byte(end: int, byte: bytes) -> None:
    if os.read(end, 1) != byte:
        raise VitrineError("the doctor's viewer died")
