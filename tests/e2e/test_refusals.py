"""What the running services refuse: alike from outside, told apart in the audit, nothing lost."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agent.cli.people import Said, as_user
from agent.repository import layout
from tests.e2e.disks import assert_told
from tests.e2e.hospital import (
    PATIENCE_S,
    VAULT,
    Installation,
    Person,
    mounts_below,
    unmount_all,
)
from tests.fakes.compare import differences

pytestmark = [pytest.mark.root, pytest.mark.fuse]

DOCTOR, OPERATOR, AUDITOR, STRANGER, FORGETFUL, GONE = range(65_011, 65_017)
ME = 0
REFUSED = "vitrine: refused\n"


class House(NamedTuple):
    """A running installation and its people."""

    hospital: Installation
    doctor: Person
    operator: Person
    auditor: Person
    forgetful: Person
    gone: Person


@pytest.fixture(scope="module", name="house")
def _house() -> Iterator[House]:
    directory = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        pacs, ris = directory / "pacs", directory / "ris"
        for source in (pacs, ris):
            source.mkdir()
            (source / "0.dcm").write_bytes(os.urandom(200_000))
        hospital = Installation(directory, pacs, ris)
        hospital.found("it-administrator", "auditor")
        with hospital.up():
            hospital.wait_for_snapshot(1)
            people = (
                hospital.add("doctor", DOCTOR, "doctor"),
                hospital.add("operator", OPERATOR, "restore-operator"),
                hospital.add("auditor", AUDITOR, "auditor"),
                hospital.add("forgetful", FORGETFUL, "doctor"),
                hospital.add("gone", GONE, "doctor"),
            )
            hospital.vitrine("user", "disable", "gone", *hospital.admin.factors())
            yield House(hospital, *people)
    finally:
        unmount_all(directory)
        shutil.rmtree(directory)


def unlock(house: House, who: Person, *, vault: str = VAULT, **replaced: str) -> Said:
    """Run `vitrine unlock` as `who`, with these options in place of their own."""
    options = {"password-file": str(who.password), "otp": replaced.pop("otp", "") or who.code()}
    options |= replaced
    words = [part for name, value in options.items() for part in (f"--{name}", value)]
    return house.hospital.ask(who.uid, "unlock", vault, *words)


def reasons(house: House, count: int) -> list[str]:
    """Return why the last requests were refused, as the audit says."""
    refused = [r for r in house.hospital.audit() if r["outcome"] == "refused"]
    return [r["details"].get("reason") or r["details"].get("why") or r["details"]["policies"]
            for r in refused[-count:]]  # fmt: skip


def test_every_refusal_is_the_same_outside_and_another_in_the_audit(
    house: House, tmp_path: Path
) -> None:
    """Password, code, used code, right, vault, stranger, disabled, locked: one answer for all."""
    wrong = tmp_path / "wrong"
    wrong.write_text("no password of anybody's\n")
    stranger = Person("stranger", STRANGER, house.doctor.password)
    used = house.doctor.code()
    opened = unlock(house, house.doctor, otp=used)
    assert opened.status == 0, opened
    readable = Path(house.hospital.directory / "wrong.secret")
    shutil.copyfile(wrong, readable)
    readable.chmod(0o644)
    asked = [
        unlock(house, house.doctor, **{"password-file": str(readable)}),
        unlock(house, house.doctor, otp="000000"),
        unlock(house, house.doctor, otp=used),
        unlock(house, house.auditor),
        unlock(house, house.doctor, vault="no-such-vault"),
        unlock(house, stranger, otp="000000"),
        unlock(house, house.gone),
    ]
    asked += [unlock(house, house.forgetful, otp="000000") for _ in range(10)]
    asked.append(unlock(house, house.forgetful))
    assert {(said.status, said.output, said.errors) for said in asked} == {
        (31, "", asked[0].errors)
    }
    assert_told(asked[0], 31, "refused", hint="on record")
    *others, locked = reasons(house, len(asked))
    assert locked == "locked"
    assert others[:7] == [
        "wrong-password", "wrong-code", "code-reused", "none permits it", "no such vault",
        "unknown-user", "disabled",
    ]  # fmt: skip
    assert unlock(house, house.doctor).status == 0, "who is right still gets in"
    house.hospital.ask(DOCTOR, "lock")


def test_a_moment_or_snapshot_that_is_none_is_told_to_who_may_know(house: House) -> None:
    """After both factors and the right: what is wrong with `--at`, and what would be right."""
    assert_told(unlock(house, house.doctor, at="last christmas"), 2, "no time", hint="yesterday")
    assert_told(unlock(house, house.doctor, at="2001-01-01"), 60, "that old", hint="snapshots")
    assert_told(unlock(house, house.doctor, at="ffffffff"), 60, "ffffffff", hint="snapshots")


def test_what_needs_a_session_says_so(house: House) -> None:
    """`ls`, `find`, `diff` without one; `lock` of one that is not there."""
    for command in (("ls", VAULT), ("find", VAULT, "*"), ("diff", VAULT, "now")):
        assert_told(house.hospital.ask(OPERATOR, *command), 32, VAULT, hint="vitrine unlock")
    said = house.hospital.ask(DOCTOR, "lock", "0123456789abcdef")
    assert_told(said, 62, "session", hint="vitrine sessions")


def test_names_that_are_not_there_are_told_to_who_may_look(house: House) -> None:
    """In a session: a directory that is none, a pattern that fits nothing."""
    assert unlock(house, house.doctor).status == 0
    said = house.hospital.ask(DOCTOR, "ls", VAULT, "nowhere")
    assert_told(said, 62, "nowhere", hint="vitrine ls")
    found = house.hospital.ask(DOCTOR, "find", VAULT, "*.nothing")
    assert (found.status, found.output) == (0, "Nothing found.\n")
    house.hospital.ask(DOCTOR, "lock")


def test_a_restore_where_it_may_not_go_is_refused(house: House) -> None:
    """The requester's own directory, one that is not there, a link: status 52, nothing written."""
    hospital = house.hospital
    own, link = hospital.directory / "own", hospital.directory / "link"
    own.mkdir()
    os.chown(own, OPERATOR, OPERATOR)
    link.symlink_to(hospital.directory / "theirs")
    for target in (own, link, hospital.directory / "nowhere"):
        words = ("restore", VAULT, "--target", str(target), *house.operator.factors())
        assert_told(hospital.ask(OPERATOR, *words), 52, "target")
    assert list(own.iterdir()) == []


def test_a_damaged_object_costs_what_is_in_it_and_is_named(house: House) -> None:
    """Reading answers EIO, the log and `verify` name the object; all else is read as before."""
    hospital, ris = house.hospital, house.hospital.sources[1]
    known = set(hospital.repository.glob("packs/*/*"))
    (ris / "later.dcm").write_bytes(os.urandom(300_000))
    hospital.wait_until_protected()
    pack = max(set(hospital.repository.glob("packs/*/*")) - known, key=os.path.getsize)
    name = str(pack.relative_to(hospital.repository))
    good = pack.read_bytes()
    bad = bytearray(good)
    bad[100_000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(bad)
    try:
        opened = hospital.unlock(house.doctor)
        latest = Path(opened.path) / "latest"
        assert errno_of((latest / "ris" / "later.dcm").read_bytes) == errno.EIO
        whole = as_user(DOCTOR, (latest / "pacs" / "0.dcm").read_bytes)
        assert whole == (hospital.sources[0] / "0.dcm").read_bytes()
        assert pack.name in hospital.log
        assert "later.dcm" not in hospital.log
        said = hospital.ask(ME, "verify", "--read-data")
        assert name in said.output
        assert_told(said, 14)
    finally:
        pack.write_bytes(good)
        hospital.ask(DOCTOR, "lock")
    assert hospital.ask(ME, "verify", "--read-data").status == 0
    opened = hospital.unlock(house.doctor)
    read = as_user(DOCTOR, (Path(opened.path) / "latest" / "ris" / "later.dcm").read_bytes)
    assert read == (ris / "later.dcm").read_bytes()
    hospital.ask(DOCTOR, "lock")


def errno_of(act: Callable[[], bytes]) -> int:
    """Return the errno that an act of the doctor's ends with."""
    try:
        as_user(DOCTOR, act)
    except OSError as error:
        return error.errno or 0
    return 0


def test_status_shows_a_source_that_is_gone_until_it_is_back(house: House) -> None:
    """Missing, with the reason, and status 1; the other source stays protected meanwhile."""
    hospital, ris = house.hospital, house.hospital.sources[1]
    assert hospital.ask(ME, "status").status == 0
    ris.rename(ris.with_name("elsewhere"))
    hospital.wait_until(lambda: state_of(hospital, ris) == "missing", "`status` shows it")
    said = hospital.ask(ME, "status")
    assert said.status == 1, said
    assert "missing" in said.output
    assert hospital.ask(ME, "snapshot").status == 1
    ris.with_name("elsewhere").rename(ris)
    hospital.wait_until(lambda: state_of(hospital, ris) == "watching", "it is back")
    assert hospital.ask(ME, "status").status == 0


def state_of(hospital: Installation, source: Path) -> str:
    """Return a source's state, as `vitrine status` says."""
    return next(str(s["state"]) for s in hospital.standings() if s["path"] == str(source))


# -- without services ---------------------------------------------------------------------------


@pytest.fixture
def still(place: Path) -> Installation:
    """Return an installation that does not run."""
    pacs = place / "pacs"
    pacs.mkdir()
    (pacs / "0.dcm").write_bytes(os.urandom(50_000))
    hospital = Installation(place, pacs)
    hospital.found("it-administrator", "auditor")
    return hospital


def test_a_service_that_does_not_run_is_named_with_how_to_start_it(still: Installation) -> None:
    """Status 40 for what asks the gate; `status` shows both; `snapshot` does without an agent."""
    secret = ("--password-file", str(still.admin.password), "--otp", "123456")
    for command in (
        ("snapshots",), ("sessions",), ("lock",), ("ls", VAULT), ("find", VAULT, "*"),
        ("diff", VAULT, "now"), ("user", "list"), ("audit", "show"), ("audit", "verify"),
        ("unlock", VAULT, *secret), ("user", "disable", "x", *secret),
        ("restore", VAULT, "--target", "/x", *secret),
    ):  # fmt: skip
        said = still.ask(ME, *command)
        assert_told(said, 40, "the gate", hint="vitrine up")
        assert "systemctl start vitrine-gate" in said.errors
    status = still.ask(ME, "status")
    assert status.status == 1
    assert "vitrine-agent" in status.output
    assert "vitrine-gate" in status.output
    assert still.ask(ME, "snapshot").status == 0
    plain = msgspec.json.decode(still.ask(ME, "status", "--json").output)
    assert {plain[one]["error"] for one in ("agent", "gate")} == {"ServiceNotRunning"}


def test_a_second_agent_leaves_the_first_alone(still: Installation) -> None:
    """Two on one state would spoil the journal: the second is told so, whichever way it comes."""
    with still.agent_alone():
        still.wait_until(still.standings, "the agent answers")
        said = still.ask(ME, "up")
        assert said.status in {2, 33, 40, 51}, said
        assert "Traceback" not in said.errors
        assert still.standings()


@contextmanager
def without_fuse(hospital: Installation) -> Iterator[None]:
    """Run `vitrine up` where /dev/fuse cannot be opened: it lies on a mount without devices."""
    script = (
        "mount --bind /dev/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse && "
        'exec "$0" -m agent.cli up --config-dir "$1"'
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, sys.executable]
    with (hospital.directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, str(hospital.config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    try:
        hospital.wait_until(lambda: "Vitrine is up" in hospital.log, "it is up", process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()  # nothing, where it has ended


def test_without_dev_fuse_unlocking_says_so_and_leaves_nothing(still: Installation) -> None:
    """Status 41 with the next step; no session, no mount point; the end is on record."""
    with without_fuse(still):
        still.wait_for_snapshot(1)
        doctor = still.add("doctor", DOCTOR, "doctor")
        said = still.ask(DOCTOR, "unlock", VAULT, *doctor.factors())
        assert_told(said, 41, "/dev/fuse", hint="modprobe fuse")
        assert still.ask(ME, "sessions").output == "No session is open.\n"
        assert mounts_below(still.config) == []
        assert list((still.config / "run" / "mounts").glob("*/*")) == []
        ended = [r for r in still.audit() if r["event"] == "session-ended"]
        assert [r["details"]["why"] for r in ended] == ["failed: MountFailed"]
        (still.sources[0] / "1.dcm").write_bytes(b"protected all the same")
        still.wait_until_protected()
    target = still.directory / "t"
    still.recover(target)
    assert differences(still.sources[0], target / "pacs") == []


def test_a_repository_object_has_the_name_that_the_messages_use(house: House) -> None:
    """What `verify` and the log name can be found on the disk as it stands there."""
    names = {str(p.relative_to(house.hospital.repository)).split("/")[0]
             for p in house.hospital.repository.rglob("*") if p.is_file()}  # fmt: skip
    assert {layout.REPOSITORY, "packs", "snapshots", "index", "vaults"} <= names
