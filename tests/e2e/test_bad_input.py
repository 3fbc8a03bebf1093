"""What goes wrong is named, has its documented status and a next step, and loses nothing.

Without services here: arguments, configuration, repositories, sources.  With them:
test_refusals.py; full disks: test_disk_full.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.people import Said, vitrine_as
from agent.repository import layout
from tests.e2e.disks import assert_told
from tests.e2e.hospital import VAULT, Installation

USER = 65_005
ME = os.geteuid()


@pytest.fixture
def pacs(place: Path) -> Path:
    """Return a source with something in it."""
    directory = place / "pacs"
    directory.mkdir()
    for number in range(3):
        (directory / f"{number}.dcm").write_bytes(os.urandom(5000))
    return directory


@pytest.fixture
def hospital(place: Path, pacs: Path) -> Installation:
    """Return an installation with one snapshot and no service."""
    installation = Installation(place, pacs)
    installation.found("it-administrator", "auditor")
    installation.vitrine("snapshot")
    return installation


def vitrine(*arguments: str | Path) -> Said:
    """Run a command that needs no configuration."""
    return vitrine_as(ME, [str(one) for one in arguments])


def recover(hospital: Installation, target: Path, **options: str | Path) -> Said:
    """Run `vitrine recover`; options replace the usual ones."""
    used: dict[str, str | Path] = {
        "repository": hospital.repository, "vault": VAULT, "target": target,
        "passphrase_file": hospital.passphrase,
    }  # fmt: skip
    used |= options
    arguments = [
        part
        for name, value in used.items()
        if name != "repository"
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    return vitrine("recover", used["repository"], *arguments)


# -- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nonsense"], "nonsense"),
        (["unlock"], "VAULT"),
        (["find", "radiology"], "PATTERN"),
        (["user", "add", "x"], "--role"),
        (["user", "nonsense"], "nonsense"),
        (["init", "x"], "--vault"),
        (["recover", "x", "--vault", "v"], "--target"),
        (["snapshot", "--nonsense"], "--nonsense"),
        (["audit", "show", "--count", "many"], "many"),
        (["verify", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
    ids=" ".join,
)
def test_what_is_no_command_is_named_with_the_way_to_help(arguments: list[str], word: str) -> None:
    """Status 2, the word, and where help is."""
    said = vitrine_as(ME, arguments)
    assert said.status == 2
    assert word in said.errors.splitlines()[-1]
    assert "--help" in said.errors or "-h" in said.errors
    assert "Traceback" not in said.errors


@pytest.mark.parametrize("arguments", [["--help"], ["user", "list", "--help"]], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error(arguments: list[str]) -> None:
    """`vitrine … | head` ends quietly, whenever the reader goes."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "agent.cli", *arguments],
            stdout=gone, stderr=subprocess.PIPE, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_json_to_a_reader_that_has_gone_is_no_error(hospital: Installation) -> None:
    """What is still in a buffer at the end counts as well."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "agent.cli", "verify", str(hospital.repository), "--json"],
            stdout=gone, stderr=subprocess.PIPE, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


# -- founding -----------------------------------------------------------------------------------


def test_init_writes_over_nothing(place: Path, hospital: Installation, pacs: Path) -> None:
    """A directory that holds something else, a vault that exists, a source that is a link."""
    (place / "full").mkdir()
    (place / "full" / "thesis.txt").write_text("mine")
    (place / "link").symlink_to(pacs)
    secret = place / "short.secret"
    secret.write_text("short\n")

    def init(repository: Path, config: Path, **options: str | Path) -> Said:
        used: dict[str, str | Path] = {
            "vault": "neurology", "department": "Neurology", "source": pacs, "administrator": "a",
            "administrator-uid": "0", "password-file": hospital.admin.password,
            "passphrase-file": hospital.passphrase, "config-dir": config,
        }  # fmt: skip
        used |= options
        words = [part for name, value in used.items() for part in (f"--{name}", value)]
        return vitrine("init", repository, *words)

    new = place / "e2"
    assert_told(init(place / "full", new), 2, str(place / "full"), hint="empty directory")
    assert (place / "full" / "thesis.txt").read_text() == "mine"
    again = init(hospital.repository, hospital.config, vault=VAULT)
    assert_told(again, 2, VAULT, hint="vitrine status")
    assert_told(init(place / "r2", new, source=place / "link"), 2, "link", hint=str(pacs))
    assert_told(init(place / "r2", new, vault="../x"), 2, "../x", hint="small letters")
    short = init(place / "r2", new, **{"passphrase-file": secret})
    assert_told(short, 2, "12 characters", hint="six random words")
    other = init(place / "r2", hospital.config)
    assert_told(other, 2, str(hospital.repository), hint="--config-dir")
    long = init(place / "r2", place / ("x" * 90))
    assert_told(long, 2, "too long", hint="shorter")
    assert vitrine("verify", hospital.repository).status == 0


def test_failed_init_can_be_run_again(place: Path, pacs: Path) -> None:
    """What a refused call left does not stand in the way of the right one."""
    installation = Installation(place, pacs)
    installation.repository.mkdir()
    (installation.repository / "lost+found").mkdir()
    with pytest.raises(AssertionError, match="holds something else"):
        installation.found()
    assert not (installation.config / "gate.keys" / "credential").exists(), "shown to nobody"
    (installation.repository / "lost+found").rmdir()
    installation.found()
    installation.vitrine("snapshot")


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "known", "typed"),
    [
        ("agent.toml", "state_dir", "stat_dir"),
        ("gate.toml", "launcher_socket", "luncher_socket"),
        ("launcher.toml", "runtime_dir", "runtimedir"),
        ("client.toml", "gate_socket", "gate_sock"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    hospital: Installation, file: str, known: str, typed: str
) -> None:
    """In every file, whichever command reads it first, and before anything starts."""
    path = hospital.config / file
    path.write_text(f'{typed} = "x"\n' + path.read_text())
    service = file.removesuffix(".toml")
    asked = [["snapshots"], ["status"]] if service == "client" else [["up"]]
    for arguments in asked:
        assert_told(hospital.ask(ME, *arguments), 2, str(path), typed, hint=f"`{known}`")
    if service != "client":
        said = vitrine(service, "--config", path)
        assert_told(said, 2, str(path), typed, hint=f"`{known}`")


def test_no_configuration_says_how_to_make_one(place: Path) -> None:
    """The directory is named, and `vitrine init`."""
    for command in ("status", "snapshots", "snapshot", "up", "verify"):
        said = vitrine(command, "--config-dir", place)
        assert_told(said, 2, str(place), hint="vitrine init")


def test_a_key_file_that_others_can_read_is_refused(hospital: Installation) -> None:
    """The file is named; nothing is read from it."""
    keys = hospital.config / "agent.keys" / f"{VAULT}.json"
    keys.chmod(0o644)
    assert_told(hospital.ask(ME, "snapshot"), 2, str(keys), hint="chmod")


@pytest.mark.parametrize("content", ["", "\n", "\nsecond line"], ids=["empty", "blank", "second"])
def test_an_empty_password_file_is_named(place: Path, hospital: Installation, content: str) -> None:
    """An empty password is a mistake before it is a wrong password."""
    path = place / "empty.secret"
    path.write_text(content)
    said = hospital.ask(ME, "unlock", VAULT, "--password-file", str(path), "--otp", "123456")
    assert_told(said, 2, str(path), "empty", hint="first line")
    assert_told(recover(hospital, place / "t", passphrase_file=path), 2, str(path))


# -- the repository -----------------------------------------------------------------------------


def test_what_is_no_repository_is_told_so(place: Path, hospital: Installation) -> None:
    """An empty directory, one of something else, a file, nothing at all."""
    (place / "empty").mkdir()
    other = place / "other"
    other.mkdir()
    (other / "repository").write_text('{"format": "borg", "version": 1, "id": "", "created_ns": 0}')
    garbage = place / "garbage"
    garbage.mkdir()
    (garbage / "repository").write_bytes(b"\xff\x00" * 40)
    for directory in (place / "empty", other, garbage):
        assert_told(vitrine("verify", directory), 11, hint="vitrine init")
        said = recover(hospital, place / "t", repository=directory)
        assert_told(said, 11, hint="vitrine init")
    said = recover(hospital, place / "t", repository=place / "nowhere")
    assert_told(said, 2, str(place / "nowhere"), hint="path")
    hospital.configure_agent(repository=str(place / "empty"))
    assert_told(hospital.ask(ME, "snapshot"), 11, hint="vitrine init")


def test_a_repository_of_a_newer_version_is_left_alone(place: Path, hospital: Installation) -> None:
    """Nothing is written; the versions are named."""
    path = hospital.repository / layout.REPOSITORY
    path.chmod(0o600)
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"version": said["version"] + 1}))
    before = sorted(hospital.repository.rglob("*"))
    (hospital.sources[0] / "new").write_bytes(b"new")
    for one in (
        vitrine("verify", hospital.repository),
        recover(hospital, place / "t"),
        hospital.ask(ME, "snapshot"),
        vitrine("agent", "--config", hospital.config / "agent.toml"),
        vitrine("gate", "--config", hospital.config / "gate.toml"),
    ):
        assert_told(one, 12, f"version {said['version'] + 1}", hint="newer Vitrine")
    assert sorted(hospital.repository.rglob("*")) == before


def test_recover_says_what_does_not_fit(place: Path, hospital: Installation) -> None:
    """Wrong passphrase, unknown vault, a target with other files, no such snapshot."""
    wrong = place / "wrong.secret"
    wrong.write_text("six other words that are wrong\n")
    assert_told(recover(hospital, place / "t", passphrase_file=wrong), 30, "passphrase")
    assert_told(recover(hospital, place / "t", vault="neurology"), 62, "neurology")
    mine = place / "full" / "pacs" / "0.dcm"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert_told(recover(hospital, place / "full"), 53, "1 file", hint="in the target")
    assert mine.read_text() == "mine", "nothing that exists is replaced"
    file = place / "file"
    file.write_text("")
    assert recover(hospital, file).status == 2
    missing = recover(hospital, place / "t", snapshot="ffffffff")
    assert_told(missing, 60, "ffffffff", hint="vitrine snapshots")
    assert_told(recover(hospital, place / "t", snapshot="xyz"), 60, hint="vitrine snapshots")


def damage(repository: Path, below: str, at: int) -> str:
    """Flip a bit in the largest object below a name; return the object's name."""
    path = max((p for p in (repository / below).rglob("*") if p.is_file()), key=os.path.getsize)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    return str(path.relative_to(repository))


@pytest.mark.parametrize(
    ("below", "at"), [("packs", 3000), ("packs", 2), ("snapshots", -3), ("index", -3)]
)
def test_verify_names_the_object_that_is_damaged(
    hospital: Installation, below: str, at: int
) -> None:
    """With the keys at hand and --read-data, whatever kind it is; status 14."""
    name = damage(hospital.repository, below, at)
    said = hospital.ask(ME, "verify", "--read-data")
    assert name in said.output
    assert_told(said, 14, "object", hint="named above")


def test_recover_gets_back_what_is_whole(place: Path, hospital: Installation, pacs: Path) -> None:
    """A damaged pack costs the files in it, which are counted; status 53; the others are there."""
    (pacs / "later.dcm").write_bytes(b"in another pack")
    hospital.vitrine("snapshot")
    damage(hospital.repository, "packs", 3000)
    said = recover(hospital, place / "t")
    assert_told(said, 53, "3 files", "could not be restored", hint="in the target")
    assert (place / "t" / "pacs" / "later.dcm").read_bytes() == b"in another pack"
    intact = [p for p in (place / "t" / "pacs").iterdir() if p.name in {"0.dcm", "1.dcm", "2.dcm"}]
    assert all(p.read_bytes() == (pacs / p.name).read_bytes() for p in intact)


def test_recover_names_a_damaged_snapshot(place: Path, hospital: Installation) -> None:
    """The only one there is: nothing to recover from, and no half target left behind."""
    name = damage(hospital.repository, "snapshots", -3)
    assert_told(recover(hospital, place / "t"), 15, name, hint="copy")


# -- sources ------------------------------------------------------------------------------------


@pytest.fixture
def two_sources(place: Path, pacs: Path) -> Installation:
    """Return an installation with a snapshot of `pacs` and `ris`."""
    ris = place / "ris"
    ris.mkdir()
    (ris / "report.txt").write_text("a report")
    installation = Installation(place, pacs, ris)
    installation.found()
    installation.vitrine("snapshot")
    return installation


def gone(ris: Path) -> None:
    """Take the source away."""
    ris.rename(ris.with_name("elsewhere"))


def link(ris: Path) -> None:
    """Turn the source into a link to where it is now."""
    ris.rename(ris.with_name("elsewhere"))
    ris.symlink_to(ris.with_name("elsewhere"))


def file(ris: Path) -> None:
    """Turn the source into a file."""
    ris.rename(ris.with_name("elsewhere"))
    ris.write_text("no directory")


@pytest.mark.parametrize("spoil", [gone, link, file])
def test_a_source_that_is_no_more_leaves_the_others_protected(
    place: Path, two_sources: Installation, pacs: Path, spoil: object
) -> None:
    """Incomplete, status 1; what was known of it stays in the newest snapshot."""
    assert callable(spoil)
    spoil(place / "ris")
    (pacs / "new.dcm").write_bytes(b"new")
    said = two_sources.ask(ME, "snapshot")
    assert said.status == 1, said
    assert "1 incomplete" in said.output
    newest = two_sources.snapshots()[-1].snapshot
    assert [state.missing for state in newest.incomplete] == [True]
    two_sources.recover(place / "t")
    assert (place / "t" / "ris" / "report.txt").read_text() == "a report"
    assert (place / "t" / "pacs" / "new.dcm").read_bytes() == b"new"


def test_without_any_source_there_is_no_snapshot(hospital: Installation, pacs: Path) -> None:
    """A new agent whose only source is gone: status 50; it comes back and is protected."""
    shutil.rmtree(hospital.config / "state" / "agent" / "vaults", ignore_errors=True)
    pacs.rename(pacs.with_name("elsewhere"))
    before = len(hospital.snapshots())
    said = hospital.ask(ME, "snapshot")
    assert said.status in {1, 50}, said
    assert "Traceback" not in said.errors
    pacs.with_name("elsewhere").rename(pacs)
    (pacs / "new.dcm").write_bytes(b"new")
    hospital.vitrine("snapshot")
    assert len(hospital.snapshots()) > before


@pytest.mark.root
def test_a_source_that_may_not_be_read_is_incomplete(
    place: Path, two_sources: Installation
) -> None:
    """The agent as its own user, and a directory that was closed to it."""
    for path in (two_sources.config, two_sources.repository):
        subprocess.run(["chown", "-R", str(USER), path], check=True)
    (place / "ris").chmod(0o700)
    said = two_sources.ask(USER, "snapshot")
    assert said.status == 1, said
    assert "1 incomplete" in said.output
    assert "Traceback" not in said.errors
