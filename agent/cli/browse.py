"""`vitrine ls` and `vitrine find`: names in an unlocked vault, now and in its history."""

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent.cli.mounted import (
    Found,
    entries,
    mount_of,
    root_of,
    shown,
    snapshot_at,
    snapshot_lines,
    walk,
)
from agent.cli.output import json_option, print_json, size, when
from agent.cli.place import config_dir_option
from agent.cli.terminal import console, table
from agent.control.gate_messages import SnapshotLine
from agent.errors import NotFound
from agent.model.ids import SHORT_HEX

_at_option = click.option(
    "--at", default="", metavar="WHEN", help="As of when, or a snapshot's id."
)


@click.command()
@click.argument("vault")
@click.argument("path", default="")
@_at_option
@json_option
@config_dir_option
def ls(vault: str, path: str, at: str, as_json: bool, config_dir: Path) -> None:
    """List PATH in an unlocked VAULT, as it was."""
    root = _root(config_dir, vault, at)
    directory = os.path.join(root, os.fsencode(path.strip("/")))
    try:
        found = [Found(name, status) for name, status in entries(directory)]
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"there is no directory {path!r} in that snapshot",
            hint=f"`vitrine ls {vault}` shows what there is",
        ) from None
    if as_json:
        print_json([_plain(item) for item in found])
        return
    rows = [_row(item) for item in found]
    table(("MODE", "SIZE", "CHANGED", "NAME"), rows, right="SIZE", long="NAME")


@click.command()
@click.argument("vault")
@click.argument("pattern")
@_at_option
@click.option("--history", is_flag=True, help="Look in every snapshot, not in one.")
@json_option
@config_dir_option
def find(vault: str, pattern: str, at: str, history: bool, as_json: bool, config_dir: Path) -> None:
    """Find names in an unlocked VAULT.

    PATTERN has *, ? and [..].  A pattern with a slash is held against the whole path.
    """
    matches = list(_matches(config_dir, vault, pattern, at, history))
    if as_json:
        print_json([_plain(item) | {"snapshot": line.id} for line, item in matches])
        return
    if not matches:
        console.print("Nothing found.")
        return
    rows = [
        (line.id[:SHORT_HEX], when(line.taken_ns), size(item.stat.st_size), shown(item.path))
        for line, item in matches
    ]
    table(("SNAPSHOT", "TAKEN", "SIZE", "PATH"), rows, right="SIZE", long="PATH")


def _matches(
    config_dir: Path, vault: str, pattern: str, at: str, history: bool
) -> Iterator[tuple[SnapshotLine, Found]]:
    mount = mount_of(config_dir, vault)
    lines = snapshot_lines(config_dir, vault, mount)
    chosen = lines if history else (snapshot_at(lines, at),)
    wanted = os.fsencode(pattern)
    seen: set[tuple[bytes, bytes]] = set()
    told: set[tuple[bytes, int, int]] = set()
    for line in chosen:
        for item in walk(root_of(mount, line), seen):
            version = (item.path, item.stat.st_mtime_ns, item.stat.st_size)
            name = item.path if b"/" in wanted else os.path.basename(item.path)
            if fnmatch.fnmatchcase(name, wanted) and version not in told:
                told.add(version)
                yield line, item


def _root(config_dir: Path, vault: str, at: str) -> bytes:
    mount = mount_of(config_dir, vault)
    lines = snapshot_lines(config_dir, vault, mount)
    return root_of(mount, snapshot_at(lines, at))


def _row(item: Found) -> tuple[str, ...]:
    status = item.stat
    mode = stat.filemode(status.st_mode)
    return mode, size(status.st_size), when(status.st_mtime_ns), shown(item.path)


def _plain(item: Found) -> dict[str, Any]:
    status = item.stat
    return {
        "path": shown(item.path),
        "mode": stat.filemode(status.st_mode),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
