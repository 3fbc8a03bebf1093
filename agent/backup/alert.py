"""Raising the alarm: a warning in the log, and a site's own command.  Kinds and counts alone."""

import logging
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from agent.model.snapshot import SnapshotInfo
from agent.repository.signs import began

_PASSED_ON: Final = ("PATH", "LANG", "TZ")

log = logging.getLogger(__name__)


class AlertCommand(NamedTuple):
    """What a site wants run; never by a shell."""

    argv: Sequence[str] = ()  # empty: nothing is run
    timeout_s: float = 10.0


def alert(vault: str, info: SnapshotInfo, command: AlertCommand) -> None:
    """Tell of a snapshot's signs; blocks until the command has ended or its time is over.

    A command that fails is logged and stops nothing: the snapshot carries its signs.
    """
    snapshot = info.snapshot
    if not snapshot.signs:
        return
    shown = ", ".join(f"{s.kind} {s.count} of {s.of}" for s in snapshot.signs)
    log.warning(
        "signs of an attack in snapshot %d of vault %s: %s", snapshot.sequence, vault, shown
    )
    if command.argv:
        _run(command, _environment(vault, info))


def _environment(vault: str, info: SnapshotInfo) -> dict[str, str]:
    """Return what the command is told, and of our own environment what any program needs."""
    snapshot = info.snapshot
    told = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    told |= {
        "VITRINE_EVENT": "signs",
        "VITRINE_VAULT": vault,
        "VITRINE_SNAPSHOT": info.id.hex(),
        "VITRINE_SEQUENCE": str(snapshot.sequence),
        "VITRINE_BEGAN": str(began(snapshot)),
        "VITRINE_SIGNS": " ".join(f"{s.kind}={s.count}/{s.of}" for s in snapshot.signs),
    }
    return told


def _run(command: AlertCommand, environment: dict[str, str]) -> None:
    import subprocess  # noqa: PLC0415 - nearly no snapshot has signs, and each would load it

    try:
        ended = subprocess.run(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=command.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.error("the alert command did not end within %.0f s and was killed", command.timeout_s)
    except OSError as error:
        log.error("the alert command cannot be run: %s", error.strerror)
    else:
        if ended.returncode:
            log.error("the alert command failed with status %d", ended.returncode)
