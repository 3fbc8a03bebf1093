"""The main job, end to end: protect, snapshot, unlock, browse, lock, restore, recover."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import msgspec
import pydicom.data
import pytest

from agent.cli.people import as_user, become
from agent.model.snapshot import Trigger
from agent.repository import layout
from tests.e2e.hospital import (
    PATIENCE_S,
    VAULT,
    Installation,
    Person,
    is_mounted,
    mounts_below,
)
from tests.fakes.compare import differences
from tests.fakes.vaults import stored_ids

pytestmark = [pytest.mark.root, pytest.mark.fuse]

DOCTOR, COLLEAGUE, OPERATOR, PACS = 65_001, 65_002, 65_003, 65_004
REFUSED = 31
CHANGING = "ct/CT_small.dcm"
IDLE_S = 8  # many times what a read takes, on any machine


@pytest.fixture
def pacs(place: Path) -> Path:
    """Return a directory of real DICOM files."""
    directory = place / "pacs"
    (directory / "ct").mkdir(parents=True)
    found = sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm"))
    assert found, "pydicom brings files"
    for number, path in enumerate(found):
        below = directory / ("ct" if path.name == "CT_small.dcm" else f"{number % 7}")
        below.mkdir(exist_ok=True)
        shutil.copyfile(path, below / path.name)
    return directory


@pytest.fixture
def hospital(place: Path, pacs: Path) -> Installation:
    """Return an installation that protects `pacs`; nothing runs yet."""
    installation = Installation(place, pacs)
    installation.found("it-administrator", "auditor")
    return installation


def test_what_a_pacs_writes_can_be_seen_by_one_doctor_for_a_while_and_restored_by_an_operator(
    hospital: Installation, pacs: Path
) -> None:
    """The demo's claims, each asserted; and a restore through the gate."""
    then = (pacs / CHANGING).read_bytes()
    with hospital.up():
        first = hospital.wait_for_snapshot(1)[-1]
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        operator = hospital.add("operator", OPERATOR, "restore-operator")
        now = _replaced(pacs / CHANGING)
        second = hospital.wait_until_protected()
        assert second.snapshot.trigger is Trigger.CHANGE, "noticed, not found by a scan"
        _refuses_alike(hospital, doctor)

        opened = hospital.unlock(doctor)
        mount = Path(opened.path)
        assert opened.snapshot == second.id.hex()
        assert opened.complete
        old = mount / "snapshots" / first.id.hex()[:12] / "pacs" / CHANGING
        new = mount / "latest" / "pacs" / CHANGING
        assert as_user(DOCTOR, old.read_bytes) == then
        assert as_user(DOCTOR, new.read_bytes) == now
        for uid in (COLLEAGUE, 0):
            assert _errno_of(uid, lambda: os.listdir(mount)) == errno.EACCES
            assert _errno_of(uid, lambda: os.stat(new)) == errno.EACCES
        assert _errno_of(DOCTOR, lambda: new.write_bytes(b"")) == errno.EROFS

        before, after = _locked_while_open(hospital, new)
        assert (before, after) == (0, errno.ENOTCONN)
        assert not is_mounted(opened.path)
        _restores(hospital, operator, pacs)
        hospital.vitrine("audit", "verify")
        _is_on_record(hospital)
        lines = hospital.log
    recovered = hospital.directory / "recovered"
    hospital.recover(recovered)
    assert differences(pacs, recovered / "pacs") == []
    _names_nobody(lines, pacs)


def test_sessions_end_with_the_services(hospital: Installation) -> None:
    """Ending `vitrine up` unmounts, ends the worker, and says so in the record."""
    with hospital.up() as running:
        hospital.wait_for_snapshot(1)
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        opened = hospital.unlock(doctor)
        assert is_mounted(opened.path)
        services = [running.pid(service) for service in ("agent", "gate", "launcher")]
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE_S) == 0
    assert mounts_below(hospital.directory) == []
    assert [pid for pid in services if Path(f"/proc/{pid}").exists()] == []
    assert _workers(hospital) == []
    assert _errno_of(DOCTOR, lambda: os.stat(Path(opened.path) / "latest")) == errno.ENOENT
    with hospital.up():
        ended = [r for r in hospital.audit() if r["event"] == "session-ended"]
        assert [(r["outcome"], r["details"]["why"]) for r in ended] == [
            ("success", "the gate stops")
        ]


def test_a_killed_agent_loses_nothing_and_stores_nothing_twice(
    place: Path, hospital: Installation, pacs: Path
) -> None:
    """Kill -9 in the middle of a run, and between a change and its snapshot; then a restart."""
    for number in range(12):  # enough packs that the first is stored long before the last
        (pacs / f"loop{number}.raw").write_bytes(os.urandom(8 * 1024 * 1024))
    with hospital.agent_alone() as agent:
        hospital.stop_once(lambda: _packs(hospital), "a first pack", agent)
        agent.kill()
    assert hospital.snapshots() == [], "killed before its first snapshot"
    kept = set(_packs(hospital))
    hospital.configure_agent(settle_seconds=3600.0, max_wait_seconds=3600.0)
    with hospital.agent_alone() as agent:
        hospital.wait_for_snapshot(1)
        (pacs / "late.raw").write_bytes(os.urandom(100_000))
        hospital.wait_until(lambda: _waits(hospital), "the change is noticed", agent)
        agent.kill()
    assert len(hospital.snapshots()) == 1, "killed before the change had settled"
    with hospital.agent_alone():
        last = hospital.wait_for_snapshot(2)[-1]
    assert last.snapshot.added_bytes < 200_000, "the rest was not stored again"
    assert kept <= set(_packs(hospital)), "what was stored before the kill is used"
    store = hospital.store()
    ids = stored_ids(store, hospital.secrets())
    store.close()
    assert len(ids) == len(set(ids))
    hospital.vitrine("verify", "--read-data")
    hospital.recover(place / "recovered")
    assert differences(pacs, place / "recovered" / "pacs") == []


def test_a_session_ends_when_its_time_is_over(hospital: Installation) -> None:
    """Without use at the idle limit; with constant use at the absolute one."""
    hospital.configure_gate(idle_seconds=IDLE_S, absolute_seconds=2 * IDLE_S)
    with hospital.up():
        hospital.wait_for_snapshot(1)
        people = hospital.add("rests", COLLEAGUE, "doctor"), hospital.add("reads", DOCTOR, "doctor")
        mounts = []
        for person in people:
            mounts.append(Path(hospital.unlock(person).path))
            file = mounts[-1] / "latest" / "pacs" / CHANGING
            assert _errno_of(person.uid, file.read_bytes) == 0
        hospital.wait_until(lambda: _errno_of(DOCTOR, file.read_bytes) != 0, "an end despite use")
        hospital.wait_until(lambda: len(_ended(hospital)) == 2, "both ends are on record")
        assert _ended(hospital) == {"rests": "idle limit", "reads": "absolute limit"}
        assert [path for path in mounts if is_mounted(str(path))] == []
        assert [_sessions(hospital, person.uid) for person in people] == [[], []]


def test_a_policy_that_is_reloaded_counts_at_once(place: Path, hospital: Installation) -> None:
    """An invalid one is not taken; a valid one ends sessions, and the next unlock goes by it."""
    policies = place / "policies"
    policies.mkdir()
    shipped = (files("agent.gate") / "policies" / "vitrine.cedar").read_text("utf-8")
    (policies / "site.cedar").write_text(shipped)
    hospital.configure_gate(policy_dir=str(policies))
    with hospital.up() as running:
        hospital.wait_for_snapshot(1)
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        opened = hospital.unlock(doctor)

        (policies / "more.cedar").write_text("permit (principal")
        running.hang_up("gate")
        hospital.wait_until(lambda: "the policy stays as it was" in hospital.log, "a refusal")
        assert is_mounted(opened.path)

        (policies / "more.cedar").write_text(
            '@id("holiday") forbid (principal, action == Action::"unlock", resource);'
        )
        running.hang_up("gate")
        hospital.wait_until(lambda: not is_mounted(opened.path), "the session's end")
        refused = hospital.ask(DOCTOR, "unlock", VAULT, *doctor.factors())
        assert refused.status == REFUSED
        assert "holiday" not in refused.errors + refused.output
        reasons = [r["details"] for r in hospital.audit() if r["event"] == "access-decided"]
        assert "holiday" in str(reasons[-1])


# -- what the tests are made of ------------------------------------------------------------------


def _replaced(path: Path) -> bytes:
    """Replace a file as a PACS does: a new one, renamed over it; return what it holds now."""
    dataset = pydicom.dcmread(path)
    dataset.PatientName = "Corrected^Name"
    beside = path.with_suffix(".part")
    dataset.save_as(beside)
    beside.rename(path)
    return path.read_bytes()


def _refuses_alike(hospital: Installation, doctor: Person) -> None:
    """Try a wrong code, a used one, a wrong password, a stranger: one answer for all."""
    code = doctor.code()
    good = ["--password-file", str(doctor.password), "--otp", code]
    first = hospital.ask(DOCTOR, "unlock", "radiology", *good, "--json")
    assert first.status == 0, first.errors
    assert hospital.ask(DOCTOR, "lock").status == 0
    wrong = ["--password-file", str(hospital.admin.password), "--otp", doctor.code()]
    answers = {
        hospital.ask(DOCTOR, "unlock", VAULT, *good),
        hospital.ask(DOCTOR, "unlock", VAULT, *good[:3], "000000"),
        hospital.ask(DOCTOR, "unlock", VAULT, *wrong),
        hospital.ask(COLLEAGUE, "unlock", VAULT, *doctor.factors()),
        hospital.ask(DOCTOR, "unlock", "cardiology", *doctor.factors()),
    }
    assert {answer.status for answer in answers} == {REFUSED}
    assert len(answers) == 1, "told apart in the audit only"


def _errno_of(uid: int, act: Callable[[], object]) -> int:
    """Return what the kernel answers to `act` by `uid`; 0 where it works."""

    def tried() -> int:
        try:
            act()
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    return as_user(uid, tried)


def _locked_while_open(hospital: Installation, path: Path) -> tuple[int, int]:
    """Lock while a process of the doctor's holds a descriptor: errno of a read before and after."""
    said, heard = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        become(DOCTOR)
        descriptor = os.open(path, os.O_RDONLY)
        os.write(said[1], bytes([_errno_of_read(descriptor)]))
        os.read(heard[0], 1)
        os.write(said[1], bytes([_errno_of_read(descriptor)]))
        os._exit(0)
    try:
        before = os.read(said[0], 1)[0]
        locked = hospital.ask(DOCTOR, "lock", "--json")
        assert locked.status == 0, locked.errors
        assert len(msgspec.json.decode(locked.output)["sessions"]) == 1
        os.write(heard[1], b"x")
        return before, os.read(said[0], 1)[0]
    finally:
        for end in (*said, *heard):
            os.close(end)
        os.waitpid(child, 0)


def _errno_of_read(descriptor: int) -> int:
    try:
        os.pread(descriptor, 4096, 0)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _restores(hospital: Installation, operator: Person, pacs: Path) -> None:
    """Restore as the operator: into somebody else's directory, and into no other."""
    theirs, own = hospital.directory / "theirs", hospital.directory / "own"
    for target, owner in ((theirs, PACS), (own, OPERATOR)):
        target.mkdir(mode=0o700)
        os.chown(target, owner, owner)
    refused = hospital.ask(
        OPERATOR, "restore", VAULT, "--target", str(own), *operator.factors(), "--json"
    )
    assert refused.status == 52, refused.errors
    assert list(own.iterdir()) == []
    said = hospital.ask(
        OPERATOR, "restore", VAULT, "--target", str(theirs), *operator.factors(), "--json"
    )
    assert said.status == 0, said.errors
    restored = msgspec.json.decode(said.output)
    assert (restored["failed"], restored["files"]) == (0, sum(p.is_file() for p in pacs.rglob("*")))
    assert differences(pacs, theirs / "pacs") == []
    assert _errno_of(OPERATOR, lambda: os.listdir(theirs)) == errno.EACCES
    unlocked = hospital.ask(OPERATOR, "unlock", VAULT, *operator.factors())
    assert unlocked.status == REFUSED, "who restores does not look"


def _is_on_record(hospital: Installation) -> None:
    """Find in the audit what happened, with the reasons that nobody was told."""
    records = hospital.audit()
    events = {(r["event"], r["outcome"]) for r in records}
    assert events >= {
        ("authentication", "refused"),
        ("authentication", "success"),
        ("access-decided", "success"),
        ("access-decided", "refused"),
        ("session-started", "success"),
        ("session-ended", "success"),
        ("files-opened", "success"),
        ("restore-started", "success"),
        ("restore-ended", "success"),
    }
    reasons = {r["details"].get("why") or r["details"].get("reason") for r in records}
    assert reasons >= {"wrong-code", "wrong-password", "code-reused"}


def _names_nobody(log: str, pacs: Path) -> None:
    """Find no file and no patient in any log line."""
    said = {path.name for path in pacs.rglob("*.dcm") if path.name in log}
    assert said == set()
    assert "Corrected^Name" not in log


def _waits(hospital: Installation) -> bool:
    """Tell whether the agent knows of a change that is in no snapshot."""
    return any(source.get("dirty_since_ns") for source in hospital.standings())


def _ended(hospital: Installation) -> dict[str, str]:
    """Return why whose session ended, as the audit says."""
    ended = [record for record in hospital.audit() if record["event"] == "session-ended"]
    return {record["actor"]: record["details"]["why"] for record in ended}


def _sessions(hospital: Installation, uid: int) -> list[object]:
    said = hospital.ask(uid, "sessions", "--json")
    assert said.status == 0, said.errors
    return msgspec.convert(msgspec.json.decode(said.output)["sessions"], list[object])


def _packs(hospital: Installation) -> list[str]:
    """Return the names of the packs that are stored."""
    store = hospital.store()
    try:
        return [listed.name for listed in store.list(layout.PACKS)]
    finally:
        store.close()


def _workers(hospital: Installation) -> list[int]:
    """Return the processes that still have to do with this installation's repository."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(hospital.directory) in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
