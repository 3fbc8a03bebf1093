"""Debian's Orthanc on a directory of a test's own: started, asked by REST and C-FIND, stopped."""

import http.client
import json
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agent.backup.read import pause
from agent.clock import SystemClock

SERVER = "/usr/sbin/Orthanc"
PATIENCE_S = 120.0
TRIES = 3  # a port that was free may be taken until the server binds it
_COUNTS = ("CountPatients", "CountStudies", "CountSeries", "CountInstances")


class Attached(NamedTuple):
    """A file in Orthanc's storage, as its database records it."""

    uuid: str
    size: int
    md5: str

    @property
    def path(self) -> str:
        """Where it lies below the storage directory."""
        return f"{self.uuid[:2]}/{self.uuid[2:4]}/{self.uuid}"


class Orthanc:
    """One running server."""

    def __init__(self, storage: Path, http_port: int, dicom_port: int) -> None:
        """Take where it stores, and where it listens."""
        self.storage = storage
        self._http_port = http_port
        self._dicom_port = dicom_port

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to GET, decoded."""
        return self._request("GET", path)

    def post(self, path: str, body: object) -> None:
        """Ask for a change."""
        self._request("POST", path, json.dumps(body))

    def delete(self, path: str) -> None:
        """Delete a resource."""
        self._request("DELETE", path)

    def counts(self) -> dict[str, int]:
        """Return how many patients, studies, series and instances there are."""
        statistics = self.get("/statistics")
        return {name: statistics[name] for name in _COUNTS}

    def found_studies(self) -> int:
        """Return how many studies a C-FIND answers with."""
        ran = subprocess.run(
            ["findscu", "-v", "-S", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=STUDY",
             "-k", "StudyInstanceUID", "127.0.0.1", str(self._dicom_port)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return (ran.stdout + ran.stderr).count("Find Response: ")

    def send(self, files: Sequence[Path]) -> None:
        """Send files by C-STORE, as a modality does."""
        subprocess.run(
            ["storescu", "-aec", "ORTHANC", "--no-halt", "--propose-lossless",
             "127.0.0.1", str(self._dicom_port), *map(str, files)],
            capture_output=True, check=True,
        )  # fmt: skip

    def answers(self) -> bool:
        """Tell whether it is up."""
        try:
            self.get("/system")
        except OSError:
            return False
        return True

    def _request(self, method: str, path: str, body: str | None = None) -> Any:  # noqa: ANN401
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=PATIENCE_S)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            assert response.status == http.HTTPStatus.OK, (method, path, response.status, content)
            return json.loads(content) if content else None


@contextmanager
def running(storage: Path, scratch: Path) -> Iterator[Orthanc]:
    """Run Orthanc with files and database below `storage`; it is stopped cleanly."""
    for left in reversed(range(TRIES)):
        server, process, log = _started(storage, scratch)
        try:
            if _serves(server, process):
                yield server
                return
            assert left, log.read_text(errors="replace")
        finally:
            _stop(process)


def _started(storage: Path, scratch: Path) -> tuple[Orthanc, "subprocess.Popen[bytes]", Path]:
    """Start a server; return it, its process and its log."""
    http_port, dicom_port = _free_ports()
    configuration = scratch / f"orthanc-{http_port}.json"
    configuration.write_text(json.dumps({
        "Name": "Vitrine test", "StorageDirectory": str(storage), "IndexDirectory": str(storage),
        "HttpPort": http_port, "DicomPort": dicom_port, "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowStore": True, "StoreMD5ForAttachments": True,
        "HttpServerEnabled": True, "DicomServerEnabled": True, "DicomCheckCalledAet": False,
    }))  # fmt: skip
    log = configuration.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SERVER, str(configuration)], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    return Orthanc(storage, http_port, dicom_port), process, log


def _serves(server: Orthanc, process: "subprocess.Popen[bytes]") -> bool:
    """Wait for an answer; tell whether it came, before the process ended or patience did."""
    deadline = SystemClock().monotonic() + PATIENCE_S
    while not server.answers():
        if process.poll() is not None or SystemClock().monotonic() > deadline:
            return False
        pause(0.1)
    return process.poll() is None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def attached_files(storage: Path, scratch: Path) -> dict[str, Attached]:
    """Return what Orthanc's database says of its files, by uuid.

    A running Orthanc keeps the database locked and its newest part in `index-wal`: both are copied.
    """
    scratch.mkdir(exist_ok=True)
    for name in ("index", "index-wal"):
        (scratch / name).unlink(missing_ok=True)
        if (storage / name).exists():
            shutil.copyfile(storage / name, scratch / name)
    with closing(sqlite3.connect(scratch / "index")) as database:
        rows = database.execute("SELECT uuid, compressedSize, compressedMD5 FROM AttachedFiles")
        return {uuid: Attached(uuid, size, md5) for uuid, size, md5 in rows}


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
