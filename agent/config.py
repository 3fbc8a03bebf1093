"""Configuration files: TOML to frozen values; an unknown key is an error that names the nearest.

Files hold places and limits, never secrets: those lie in key files (agent/crypto/keyfiles.py).
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec
import tomli_w

from agent.errors import ConfigInvalid
from agent.model.decoding import UNDECODABLE

MiB = 1024 * 1024
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
AtLeastOne = Annotated[float, msgspec.Meta(ge=1)]  # or full scans would follow each other
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A directory that is protected."""

    path: str
    label: str = ""  # its name at the top of a snapshot; by default the directory's own
    include: tuple[str, ...] = ()  # patterns as in .gitignore, on paths below the source
    exclude: tuple[str, ...] = ()


class AgentVaultConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A vault that this host writes to."""

    name: str
    keys: str  # the write-only bundle
    source: tuple[SourceConfig, ...]


class SignsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From when on something is a sign of an attack (docs/ransomware.md)."""

    lost_dicom: Annotated[int, msgspec.Meta(ge=1)] = 5  # images that are none any more
    broken_dicom: Annotated[int, msgspec.Meta(ge=1)] = 5  # images that cannot be read any more
    suffix_burst: Annotated[int, msgspec.Meta(ge=1)] = 20  # rewritten files with one new suffix
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2  # of a source changed, or removed,
    files: Annotated[int, msgspec.Meta(ge=1)] = 100  # and at least so many files,
    studies: Annotated[int, msgspec.Meta(ge=1)] = 5  # and where they are images, of so many studies
    at_rest_days: NotNegative = 8.0  # only of files that had not changed for so long
    window_seconds: AtLeastOne = 3600.0  # all of it within this time


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """agent.toml."""

    repository: str
    state_dir: str
    socket: str
    vault: tuple[AgentVaultConfig, ...]
    settle_seconds: NotNegative = 5.0  # quiet for so long after the last change
    max_wait_seconds: NotNegative = 60.0  # but never later than this under constant change
    scan_interval_seconds: AtLeastOne = 6 * 3600.0  # full scans find what events missed
    signs: SignsConfig = SignsConfig()
    alert_command: tuple[str, ...] = ()  # a program and its arguments; no shell
    alert_timeout_seconds: AtLeastOne = 10.0


class GateVaultConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A vault that this gate opens."""

    name: str
    keys: str  # what verifies and finds


class GateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """gate.toml."""

    repository: str
    state_dir: str
    socket: str
    launcher_socket: str
    credential: str  # opens the gate's keyslots: 32 bytes
    vault: tuple[GateVaultConfig, ...]
    policy_dir: str = ""  # a site's own policies, in place of the shipped ones
    absolute_seconds: int = 4 * 3600  # NIST SP 800-63B-4: at most 12 h at AAL3
    idle_seconds: int = 15 * 60  # the same: at most 15 min at AAL3
    cache_bytes: int = 128 * MiB  # of decoded content; a worker takes about 100 MB beside it


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which snapshots of a vault are kept (docs/retention.md).  No rule: all of them."""

    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    everything_newer_than: str = ""  # 48h, 30d
    minimum_age: str = ""  # by law, 15y or 30y: nothing younger is ever removed
    time_zone: str = ""  # of hours and days: Europe/Berlin; by default this machine's


class MaintenanceVaultConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A vault that is maintained."""

    name: str
    keys: str  # what verifies and finds
    retention: RetentionConfig = RetentionConfig()


class PruneConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When what no snapshot needs is deleted (docs/prune.md)."""

    min_age_days: Annotated[float, msgspec.Meta(ge=2)] = 14.0  # longer than any first backup takes
    grace_days: Annotated[float, msgspec.Meta(ge=3)] = 7.0
    used_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.7  # packs used less are rewritten
    rewrite_bytes: Annotated[int, msgspec.Meta(ge=0)] = 8 * 1024 * MiB  # read for that in one run


class ParityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What damage is healed from (docs/repair.md)."""

    make: bool = True
    read_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * MiB  # for that in one run


class VerifyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The thirtieth of the repository that is read each day (docs/repair.md)."""

    repair: bool = True  # heal what is found damaged, where parity can


class DrillConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How recoveries are rehearsed."""

    sample_files: Annotated[int, msgspec.Meta(ge=1)] = 200
    whole: bool = True  # restore everything too, where there is room
    orthanc: bool = True  # have one count the images, where it is installed
    scratch: str = ""  # by default below the state directory; holds content while a drill runs
    reports: str = ""  # by default below the state directory


class MaintenanceConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """maintenance.toml."""

    repository: str
    state_dir: str
    credential: str  # opens the keyslots of maintenance: 32 bytes
    vault: tuple[MaintenanceVaultConfig, ...]
    prune: PruneConfig = PruneConfig()
    parity: ParityConfig = ParityConfig()
    verify: VerifyConfig = VerifyConfig()
    drill: DrillConfig = DrillConfig()


class LauncherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """launcher.toml."""

    socket: str
    runtime_dir: str  # mounts are made below it
    gate_user: str = ""  # the only user that is heard; by default the launcher's own
    worker_user: str = ""  # whom workers of mounts run as; by default the launcher's own


class ClientConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """client.toml: what anyone on this machine may know.  Holds no secret."""

    repository: str
    agent_socket: str = ""  # empty: no agent on this host
    gate_socket: str = ""  # empty: no gate on this host


Config = TypeVar("Config", AgentConfig, GateConfig, MaintenanceConfig, LauncherConfig, ClientConfig)


def load(path: Path, kind: type[Config]) -> Config:
    """Return what the file says; raise ConfigInvalid naming file, key and the nearest known key."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise ConfigInvalid(
            f"there is no {path}",
            hint="name the directory with --config-dir, or make one with `vitrine init`",
        ) from None
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigInvalid(f"{path} nests too deep to be a configuration") from error
    except UNDECODABLE as error:
        raise ConfigInvalid(f"{path}: {error}", hint=_nearest(str(error), kind)) from error


def save(path: Path, config: Config, mode: int) -> None:
    """Write a file that `load` reads, whole or not at all, with these permission bits."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(tomli_w.dumps(msgspec.to_builtins(config)).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _nearest(problem: str, kind: type[Any]) -> str:
    """Return a hint with the known key that is most like the unknown one."""
    match = _UNKNOWN.search(problem)
    if match is None:
        return "see docs/configuration.md for the keys and their kinds"
    known = sorted(_keys(kind))
    close = difflib.get_close_matches(match["name"], known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known are: {', '.join(known)}"


def _keys(kind: type[Any]) -> set[str]:
    """Return the keys of a configuration and of the tables in it."""
    hints = get_type_hints(kind)
    inner = {part for hint in hints.values() for part in get_args(hint)}
    tables = [part for part in inner if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    return set(hints).union(*(_keys(table) for table in tables))
