"""The units are sound by systemd's own judgement, and say what docs/systemd.md promises."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agent.cli.main import _COMMANDS

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
BIN = "/usr/lib/vitrine/venv/bin/vitrine"
NAMES = sorted(path.name for path in UNITS.glob("vitrine-*"))
JOBS = {"vitrine-maintenance": "maintain", "vitrine-drill": "drill"}
SERVICES = ["vitrine-agent", "vitrine-gate", "vitrine-launcher"]
HARD = ["vitrine-agent", "vitrine-gate"]

# systemd.exec(5): each gives a unit, or may, a mount namespace of its own, where its mounts stay.
PRIVATE_MOUNTS = {
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "InaccessiblePaths",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "SetCredential",
    "TemporaryFileSystem",
}


def settings(name: str) -> dict[str, list[str]]:
    """Return every setting of a unit with all its values; no setting of ours is in two sections."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a directory with the units, as they are where `vitrine` is installed."""
    program = tmp_path / "vitrine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        text = (UNITS / name).read_text()
        assert not name.endswith(".service") or BIN in text
        (tmp_path / name).write_text(text.replace(BIN, str(program)))
    return tmp_path


def verify(directory: Path) -> list[str]:
    """Return what systemd-analyze says of the units in `directory`, and of nobody else's."""
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(directory / name for name in NAMES)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_COLORS": "0", "SYSTEMD_LOG_TARGET": "console"},
    )
    said = [line for line in result.stderr.splitlines() if "vitrine" in line]
    if result.returncode and not said:  # could not run at all, or somebody else's unit is broken
        pytest.fail(result.stderr)
    return said


@pytest.mark.service("systemd-analyze")
def test_units_verify(installed: Path) -> None:
    """No unknown setting, no bad value, nothing asked for that is not there."""
    assert verify(installed) == []


@pytest.mark.service("systemd-analyze")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ProtectSystem=strict", "ProtectSytem=strict"),
        ("WatchdogSec=30", "WatchdogSec=often"),
        ("/vitrine gate", "/no-such-program gate"),
    ],
)
def test_a_fault_in_a_unit_is_found(installed: Path, right: str, wrong: str) -> None:
    """What the test above relies on: systemd-analyze looks at these files, and closely."""
    gate = installed / "vitrine-gate.service"
    assert right in gate.read_text()
    gate.write_text(gate.read_text().replace(right, wrong))
    assert any("vitrine-gate.service" in line for line in verify(installed))


@pytest.mark.parametrize("service", SERVICES)
def test_services_run_commands_that_exist(service: str) -> None:
    """Each with its own configuration, without which it does not start."""
    command = service.removeprefix("vitrine-")
    config = f"/etc/vitrine/{command}.toml"
    unit = settings(f"{service}.service")
    assert command in _COMMANDS
    assert unit["ExecStart"] == [f"{BIN} {command} --config {config}"]
    assert unit["ConditionPathExists"] == [config]


@pytest.mark.parametrize(("job", "command"), JOBS.items())
def test_jobs_run_by_a_timer_as_one_that_is_neither_agent_nor_gate(job: str, command: str) -> None:
    """A failure is the unit's: monitoring sees it; a missed night is made up for."""
    unit, timer = settings(f"{job}.service"), settings(f"{job}.timer")
    assert command in _COMMANDS
    assert unit["ExecStart"] == [f"{BIN} {command}"]
    assert (unit["Type"], unit["User"]) == (["oneshot"], ["vitrine-maintenance"])
    assert unit["LoadCredential"] == ["keys:/etc/vitrine/maintenance.keys"]
    assert unit["PrivateNetwork"] == unit["NoNewPrivileges"] == ["yes"]
    assert (timer["Persistent"], timer["WantedBy"]) == (["yes"], ["timers.target"])


@pytest.mark.parametrize("service", SERVICES)
def test_services_tell_systemd_how_they_are(service: str) -> None:
    """Started when they serve, restarted when they hang or fail, and never dumped to a disk."""
    unit = settings(f"{service}.service")
    assert (unit["Type"], unit["NotifyAccess"], unit["WatchdogSec"]) == (
        ["notify"],
        ["main"],
        ["30"],
    )
    assert (unit["Restart"], unit["LimitCORE"]) == (["on-failure"], ["0"])
    assert f"{service}.socket" in unit["Requires"]


def test_each_socket_is_for_its_callers() -> None:
    """People at the gate, administrators at the agent, the gate alone at the launcher."""
    sockets = {name: settings(name) for name in NAMES if name.endswith(".socket")}
    seen = {
        name.removesuffix(".socket"): (
            unit["ListenStream"][0],
            unit.get("SocketUser", ["root"])[0],
            unit["SocketMode"][0],
        )
        for name, unit in sockets.items()
    }
    assert seen == {
        "vitrine-agent": ("/run/vitrine/agent.sock", "vitrine", "0660"),
        "vitrine-gate": ("/run/vitrine/gate.sock", "root", "0666"),
        "vitrine-launcher": ("/run/vitrine/launcher.sock", "vitrine-gate", "0600"),
    }


def test_the_launchers_mounts_reach_the_host() -> None:
    """No setting gives it a mount namespace of its own."""
    assert settings("vitrine-launcher.service").keys() & PRIVATE_MOUNTS == set()


@pytest.mark.parametrize("service", HARD)
def test_who_holds_keys_has_no_power(service: str) -> None:
    """No root, no way to become it, no network, no executable memory, no write but to its state."""
    unit = settings(f"{service}.service")
    allowed = {"vitrine-agent": "CAP_DAC_READ_SEARCH", "vitrine-gate": ""}[service]
    assert unit["CapabilityBoundingSet"] == [allowed]
    assert unit["User"] == [service.removesuffix("-agent")]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert unit["NoNewPrivileges"] == unit["MemoryDenyWriteExecute"] == ["yes"]
    assert "PrivateUsers" not in unit  # would blind CAP_DAC_READ_SEARCH and SO_PEERCRED


@pytest.mark.service("systemd-analyze")
@pytest.mark.parametrize(("service", "at_most"), [("vitrine-agent", 1.2), ("vitrine-gate", 0.8)])
def test_exposure_does_not_grow(service: str, at_most: float) -> None:
    """By systemd's own measure, in its tenths of ten."""
    threshold = f"--threshold={at_most * 10:.0f}"
    unit = UNITS / f"{service}.service"
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.root
@pytest.mark.service("systemd-sysusers", "systemd-tmpfiles")
def test_users_and_directories_are_made(tmp_path: Path) -> None:
    """From nothing: four users that cannot log in, and only root sees the keys' directories."""
    (tmp_path / "etc").mkdir()
    make = {"systemd-sysusers": "sysusers.d", "systemd-tmpfiles": "tmpfiles.d"}
    for program, directory in make.items():
        create = ["--create"] if program == "systemd-tmpfiles" else []
        config = UNITS / directory / "vitrine.conf"
        path = shutil.which(program)
        assert path is not None
        subprocess.run([path, f"--root={tmp_path}", *create, config], check=True)
    lines = (tmp_path / "etc/passwd").read_text().splitlines()
    users = {line.split(":")[0]: line.split(":") for line in lines}
    groups = [line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()]
    readers = next(group for group in groups if group[0] == "vitrine-repository")
    assert {user[6] for user in users.values()} == {"/usr/sbin/nologin"}
    assert users.keys() == {"vitrine", "vitrine-gate", "vitrine-maintenance", "vitrine-fs"}
    assert set(readers[3].split(",")) == {"vitrine", "vitrine-gate", "vitrine-maintenance"}
    assert users["vitrine-fs"][3] == readers[2]  # its only group

    def place(path: str) -> tuple[str, int]:
        status = (tmp_path / path).stat()
        owner = next((n for n, u in users.items() if u[2] == str(status.st_uid)), "root")
        return owner, stat.S_IMODE(status.st_mode)

    assert place("run/vitrine") == ("root", 0o755)
    assert place("etc/vitrine") == ("root", 0o755)
    assert place("etc/vitrine/agent.keys") == ("root", 0o700)
    assert place("etc/vitrine/gate.keys") == ("root", 0o700)
    assert place("etc/vitrine/maintenance.keys") == ("root", 0o700)
    assert place("var/lib/vitrine/maintenance") == ("vitrine-maintenance", 0o700)
    assert place("var/lib/vitrine/agent") == ("vitrine", 0o700)
    assert place("var/lib/vitrine/gate") == ("vitrine-gate", 0o700)
