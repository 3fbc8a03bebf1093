"""The alarm: a warning always, a site's command if there is one, kinds and counts alone."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.agentrun import snapshot_once
from agent.audit.files import AuditFiles, newest_records
from agent.backup.alert import AlertCommand, alert
from agent.config import AgentConfig, SignsConfig, load, save
from agent.control import daemon
from agent.control.agent_messages import TakeSnapshot
from agent.model.snapshot import Sign
from tests.fakes.agents import AgentOnDisk
from tests.unit.test_last_clean import snapshot

ATTACKED = snapshot(4, Sign("lost-dicom", 12, 400, 3), Sign("canary", 1, 3, 4))
WARNING = "signs of an attack in snapshot 4 of vault radiology: lost-dicom 12 of 400, canary 1 of 3"


def shell(text: str) -> tuple[str, ...]:
    """Return a command that a site could have."""
    return ("/bin/sh", "-c", text)


def test_a_command_is_told_kinds_and_counts_and_nothing_of_our_environment(
    tmp_path: Path, expect_log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through its environment; its arguments are the site's."""
    expect_log(WARNING)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/somewhere")
    alert("radiology", ATTACKED, AlertCommand(shell(f"env > {tmp_path}/told")))
    told = dict(line.split("=", 1) for line in (tmp_path / "told").read_text().splitlines())
    assert told["VITRINE_SIGNS"] == "lost-dicom=12/400 canary=1/3"
    assert (told["VITRINE_EVENT"], told["VITRINE_VAULT"]) == ("signs", "radiology")
    assert (told["VITRINE_SEQUENCE"], told["VITRINE_BEGAN"]) == ("4", "3")
    assert told["VITRINE_SNAPSHOT"] == ATTACKED.id.hex()
    assert "CREDENTIALS_DIRECTORY" not in told


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (shell("exit 3"), "failed with status 3"),
        (("/nowhere/at-all",), "cannot be run: No such file"),
        (shell("exec sleep 3600"), "did not end within"),
    ],
)
def test_a_command_that_fails_or_hangs_is_logged_and_stops_nothing(
    command: tuple[str, ...], problem: str, expect_log: Callable[..., None]
) -> None:
    """The snapshot is taken by then, and carries the signs."""
    expect_log(WARNING)
    expect_log(problem, level=logging.ERROR)
    alert("radiology", ATTACKED, AlertCommand(command, 0.5 if "sleep" in command[-1] else 60))


def test_without_signs_nothing_is_said_or_run(tmp_path: Path) -> None:
    """Nearly always."""
    alert("radiology", snapshot(1), AlertCommand(shell(f"touch {tmp_path}/ran")))
    assert list(tmp_path.iterdir()) == []


def test_an_agent_alerts_and_records_as_it_is_configured(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    """Limits, command and audit record, of a snapshot without a daemon too."""
    agent = AgentOnDisk(tmp_path)
    told = tmp_path / "told"
    config = msgspec.structs.replace(
        agent.config,
        signs=SignsConfig(suffix_burst=2),
        alert_command=shell(f"echo $VITRINE_SIGNS >> {told}"),
    )
    save(agent.file, config, 0o600)
    config = load(agent.file, AgentConfig)
    for name in ("ZZSECRET1", "ZZSECRET2"):
        (agent.source / name).write_text("text")
    snapshot_once(config, TakeSnapshot(), lambda _: None)
    assert not told.exists()
    expect_log("signs of an attack in snapshot 2 of vault radiology: suffix-burst 2 of 2")
    for name in ("ZZSECRET1", "ZZSECRET2"):
        (agent.source / name).write_text(f"{name} encrypted")
        (agent.source / name).rename(agent.source / f"{name}.locked")
    snapshot_once(config, TakeSnapshot(), lambda _: None)
    assert told.read_text() == "suffix-burst=2/2\n"
    files = AuditFiles.under(tmp_path / "state" / "audit")
    audit = "\n".join(newest_records(files, 20))
    assert audit.count('"event":"signs-seen"') == 1
    assert '"suffix-burst":"2 of 2"' in audit
    assert "ZZSECRET" not in audit


def test_journald_is_told_how_urgent_a_line_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the prefix of sd-daemon(3), only where it is journald that reads."""
    root = logging.getLogger()
    kept, hook = root.handlers[:], threading.excepthook
    try:
        with os.fdopen(os.dup(2), "w", buffering=1) as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            status = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
            daemon.log_plainly()
            logging.getLogger("agent.x").info("calm")
            logging.getLogger("agent.x").error("one\ntwo")
            monkeypatch.setenv("JOURNAL_STREAM", "1:1")
            daemon.log_plainly()
            logging.getLogger("agent.x").info("plain")
    finally:
        root.handlers[:] = kept
        threading.excepthook = hook
    said = capfd.readouterr().err
    assert said == "<6>agent.x: calm\n<3>agent.x: one\n<3>two\nINFO agent.x: plain\n"
