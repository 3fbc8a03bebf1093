"""`vitrine canary`: studies that nobody has reason to touch, so that whoever does is noticed."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from agent.backup.canaries import Canaries, Canary
from agent.backup.patterns import Patterns
from agent.cli.canary_study import images, new_paths, write_files
from agent.cli.output import ago, counted, json_option, print_json
from agent.cli.place import config_dir_option
from agent.cli.terminal import console, styled, table
from agent.clock import SystemClock
from agent.config import AgentConfig, AgentVaultConfig, SourceConfig, load
from agent.crypto.keyfiles import load_keys
from agent.crypto.naming import object_name
from agent.crypto.secrets import WriterKeys
from agent.errors import NotFound, SourceUnavailable

_STYLES = {"whole": "green", "changed": "bold red", "missing": "bold red"}


class CanaryLine(msgspec.Struct, frozen=True):
    """One file in a listing."""

    study: str
    vault: str
    path: str
    state: str  # whole, changed or missing, as the file is now
    made_ns: int


class _Place(NamedTuple):
    """A source, and where the agent notes its canaries."""

    vault: AgentVaultConfig
    source: SourceConfig
    canaries: Canaries


@click.group()
def canary() -> None:
    """Put studies into a source that nobody has reason to touch.

    A change to one is a sign of an attack, and raises the alarm.  To be run as root, on the host
    of the agent.
    """


@canary.command()
@click.argument("source")
@click.option("--images", "count", type=click.IntRange(2, 3), default=3, show_default=True)
@config_dir_option
def add(source: str, count: int, config_dir: Path) -> None:
    """Write a study of a phantom into SOURCE, a directory that is protected."""
    config = load(config_dir / "agent.toml", AgentConfig)
    place = _place(config, source)
    now_ns = SystemClock().now_ns()
    root = Path(place.source.path)
    patterns = Patterns(place.source.include, place.source.exclude)
    contents = list(images(count, now_ns))
    study = secrets.token_hex(4)
    with place.canaries.changing() as known:
        try:
            paths = new_paths(root, count)
            _refuse_left_out(patterns, root, paths)
            write_files(root, paths, contents, now_ns)
        except OSError as error:
            raise SourceUnavailable(
                f"the source cannot be written to: {error.strerror}", hint="run this as root"
            ) from error
        # known to the agent only once they are there, so that it misses none
        known += [
            Canary(
                secrets.token_hex(8),
                study,
                os.fsencode(place.source.path.rstrip("/") or "/"),
                os.fsencode(path.relative_to(root)),
                object_name(data),
                now_ns,
            )
            for path, data in zip(paths, contents, strict=True)
        ]
    console.print(
        f"Canary study {study} of {counted(count, 'image')} is below {root}.  "
        f"`vitrine canary list` shows where;\nthe agent watches it from its next snapshot on."
    )


@canary.command("list")
@json_option
@config_dir_option
def list_(as_json: bool, config_dir: Path) -> int:
    """Show every canary, and whether it is whole.  Exit status 1 if one is not."""
    config = load(config_dir / "agent.toml", AgentConfig)
    lines = [
        CanaryLine(one.study, vault.name, os.fsdecode(_path(one)), _state(one), one.made_ns)
        for vault in config.vault
        for one in _canaries(config, vault).read()
    ]
    if as_json:
        print_json(lines)
    elif not lines:
        console.print("No canary yet: `vitrine canary add SOURCE`.")
    else:
        rows = [(one.study, one.vault, one.path, ago(one.made_ns),
                 styled(_STYLES[one.state], one.state)) for one in lines]  # fmt: skip
        table(("STUDY", "VAULT", "FILE", "MADE", "STATE"), rows, long="FILE")
    return int(any(one.state != "whole" for one in lines))


@canary.command()
@click.argument("studies", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every study.")
@config_dir_option
def remove(studies: tuple[str, ...], everything: bool, config_dir: Path) -> None:
    """Take STUDIES away, without an alarm."""
    if bool(studies) == everything:
        raise click.UsageError("name studies, or say --all")
    config = load(config_dir / "agent.toml", AgentConfig)
    gone: list[Canary] = []
    for vault in config.vault:
        canaries = _canaries(config, vault)
        if not canaries.read():
            continue
        with canaries.changing() as known:
            chosen = [one for one in known if everything or one.study in studies]
            known[:] = [one for one in known if one not in chosen]
            gone += chosen
    if missing := set(studies) - {one.study for one in gone}:
        raise NotFound(f"there is no canary study {min(missing)}", hint="see `vitrine canary list`")
    for one in gone:  # the agent does not look for them any more
        _delete(one)
    console.print(f"{counted(len({one.study for one in gone}), 'study', 'studies')} removed.")


def _place(config: AgentConfig, source: str) -> _Place:
    for vault in config.vault:
        for one in vault.source:
            if source.rstrip("/") in {one.path.rstrip("/"), one.label} - {""}:
                return _Place(vault, one, _canaries(config, vault))
    raise NotFound(
        "this agent protects no such source", hint="name one as agent.toml or `vitrine status` does"
    )


def _canaries(config: AgentConfig, vault: AgentVaultConfig) -> Canaries:
    keys = load_keys(Path(vault.keys), WriterKeys)
    return Canaries(Path(config.state_dir) / keys.vault.hex())


def _refuse_left_out(patterns: Patterns, root: Path, paths: list[Path]) -> None:
    """Raise SourceUnavailable where the source's patterns leave out what would be written."""
    for path in paths:
        below = os.fsencode(path.relative_to(root))
        parent = below.rpartition(b"/")[0]
        if not (patterns.takes_below(parent) and patterns.takes(below, is_directory=False)):
            raise SourceUnavailable(
                "the source's patterns leave out where a study would be",
                hint="see include and exclude in agent.toml",
            )


def _path(one: Canary) -> bytes:
    return one.source.rstrip(b"/") + b"/" + one.path


def _state(one: Canary) -> str:
    try:
        data = Path(os.fsdecode(_path(one))).read_bytes()
    except OSError:
        return "missing"
    return "whole" if object_name(data) == one.digest else "changed"


def _delete(one: Canary) -> None:
    """Delete a file, and directories above it that it leaves empty."""
    path, source = Path(os.fsdecode(_path(one))), Path(os.fsdecode(one.source))
    path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or gone with the file before
        for above in path.parents:
            if above == source:
                return
            above.rmdir()
