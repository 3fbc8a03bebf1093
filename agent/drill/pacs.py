"""A scratch Orthanc on restored images: whether a PACS takes them, and counts what there was.

Where the data set is an Orthanc's own storage, the server is started on it, with its database, and
each file is compared with the size and MD5 that the database recorded: a check that owes nothing
to us.  Any other images are sent to an empty server.  It listens on the loopback interface alone.
"""

import hashlib
import http.client
import json
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from agent.clock import Clock
from agent.errors import DrillFailed

PATIENCE_S = 60.0
_POLL_S = 0.1
_SERVERS = ("Orthanc", "/usr/sbin/Orthanc")
_MAGIC_AT, _DICOM_MAGIC = 128, b"DICM"
_IMAGE = 1  # fileType of AttachedFiles: the DICOM file itself


class Counted(msgspec.Struct, frozen=True):
    """What a scratch PACS made of the images."""

    server: str = ""  # empty: none is installed here
    own_storage: bool = False  # started on the restored storage of an Orthanc
    expected: int = 0  # instances by the database, or files that were taken
    counted: int = 0  # by the server, asked
    refused: int = 0  # files that it would not take
    differing: int = 0  # files that are not as the database recorded them, or not there

    @property
    def passed(self) -> bool:
        """Tell whether everything was there that should be."""
        return self.expected == self.counted and not self.differing


def find_server() -> str | None:
    """Return the server's program, or None where it is not installed."""
    return next((path for name in _SERVERS if (path := shutil.which(name))), None)


def count(restored: Path, scratch: Path, clock: Clock) -> Counted:
    """Have a PACS count the images below `restored`; raise DrillFailed where it does not start."""
    program = find_server()
    if program is None:
        return Counted()
    storage = _own_storage(restored)
    if storage is not None:
        expected, differing = _recorded(storage)
        with _running(program, storage, scratch, clock) as server:
            return Counted("Orthanc", True, expected, server.instances(), 0, differing)
    empty = scratch / "storage"
    empty.mkdir()
    with _running(program, empty, scratch, clock) as server:
        taken: set[str] = set()
        refused = 0
        for path in _images(restored):
            answer = server.send(path)
            refused += answer is None
            taken |= {answer} if answer else set()
        return Counted("Orthanc", False, len(taken), server.instances(), refused, 0)


class _Server:
    """A running server, asked by REST."""

    def __init__(self, port: int) -> None:
        self._port = port

    def answers(self) -> bool:
        try:
            return self._ask("GET", "/system") is not None
        except OSError:
            return False

    def instances(self) -> int:
        statistics = self._ask("GET", "/statistics")
        return int(statistics["CountInstances"]) if statistics else 0

    def send(self, path: Path) -> str | None:
        """Return the server's name for an image that it took, None where it refuses."""
        answer = self._ask("POST", "/instances", path.read_bytes())
        return str(answer["ID"]) if answer else None

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            return json.loads(content) if response.status == http.HTTPStatus.OK else None


@contextmanager
def _running(program: str, storage: Path, scratch: Path, clock: Clock) -> Iterator[_Server]:
    port = _free_port()
    configuration = scratch / "orthanc.json"
    configuration.write_text(json.dumps({
        "Name": "Vitrine drill", "StorageDirectory": str(storage), "IndexDirectory": str(storage),
        "HttpPort": port, "HttpServerEnabled": True, "DicomServerEnabled": False,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
    }))  # fmt: skip
    process = subprocess.Popen(
        [program, str(configuration)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        server = _Server(port)
        deadline = clock.monotonic() + PATIENCE_S
        while not server.answers():
            if process.poll() is not None or clock.monotonic() > deadline:
                raise DrillFailed(
                    "the scratch Orthanc did not start on the restored images",
                    hint="start it by hand on a restored copy, and see what it says",
                )
            _wait(process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment, or until the server ends."""
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return


def _own_storage(restored: Path) -> Path | None:
    """Return the directory of an Orthanc's storage with its database, if there is one."""
    for index in sorted(restored.rglob("index")):
        if index.is_file() and not index.is_symlink():
            try:
                with closing(sqlite3.connect(index)) as database:
                    database.execute("SELECT uuid FROM AttachedFiles LIMIT 1")
            except sqlite3.Error:
                continue
            return index.parent
    return None


def _recorded(storage: Path) -> tuple[int, int]:
    """Return how many images the database records, and how many files differ from its records."""
    with closing(sqlite3.connect(storage / "index")) as database:
        rows = database.execute(
            "SELECT fileType, uuid, compressedSize, compressedMD5 FROM AttachedFiles"
        ).fetchall()
    differing = sum(
        not _is_as_recorded(storage / uuid[:2] / uuid[2:4] / uuid, size, md5)
        for _, uuid, size, md5 in rows
    )
    return sum(kind == _IMAGE for kind, *_ in rows), differing


def _is_as_recorded(path: Path, size: int, md5: str) -> bool:
    try:
        with path.open("rb") as file:
            # MD5 is what Orthanc records; nobody relies on it against malice
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        return path.stat().st_size == size and found.hexdigest() == md5
    except OSError:
        return False


def _images(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                head = file.read(_MAGIC_AT + len(_DICOM_MAGIC))
            if head[_MAGIC_AT:] == _DICOM_MAGIC:
                yield path


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
