"""`vitrine diff`: what changed between two states of an unlocked vault, without reading content."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from agent.cli.mounted import (
    DIGEST_ATTRIBUTE,
    TREE_ATTRIBUTE,
    attribute,
    entries,
    mount_of,
    root_of,
    shown,
    snapshot_at,
    snapshot_lines,
)
from agent.cli.output import json_option, print_json, size
from agent.cli.place import config_dir_option
from agent.cli.terminal import console


class Change(NamedTuple):
    """One path that is not as it was."""

    sign: str  # + added, - removed, M content, T kind, m metadata only
    path: bytes
    bytes: int  # size now, or before if it is gone


@click.command()
@click.argument("vault")
@click.argument("old")
@click.argument("new", default="")
@json_option
@config_dir_option
def diff(vault: str, old: str, new: str, as_json: bool, config_dir: Path) -> None:
    """Show what changed in an unlocked VAULT.

    OLD and NEW are times or snapshot ids; NEW is by default the latest.
    + added, - removed, M content changed, T kind changed, m only metadata changed.
    """
    mount = mount_of(config_dir, vault)
    lines = snapshot_lines(config_dir, vault, mount)
    before, after = (root_of(mount, snapshot_at(lines, text)) for text in (old, new))
    found = list(changes(before, after))
    if as_json:
        print_json([{"change": c.sign, "path": shown(c.path), "size": c.bytes} for c in found])
        return
    for change in found:
        console.print(f"{change.sign} {shown(change.path)}")
    added = sum(c.bytes for c in found if c.sign == "+")
    counts = {sign: sum(c.sign == sign for c in found) for sign in "+-MTm"}
    console.print(
        f"{counts['+']} added ({size(added)}), {counts['-']} removed, "
        f"{counts['M'] + counts['T']} changed, {counts['m']} in metadata only"
    )


def changes(before: bytes, after: bytes, below: bytes = b"") -> Iterator[Change]:
    """Yield what differs between two directories, deep; equal subtrees cost one look each."""
    left, right = os.path.join(before, below), os.path.join(after, below)
    trees = attribute(left, TREE_ATTRIBUTE), attribute(right, TREE_ATTRIBUTE)
    if trees[0] and trees[0] == trees[1]:
        return
    old, new = dict(entries(left)), dict(entries(right))
    for name in sorted(old.keys() | new.keys()):
        path = os.path.join(below, name) if below else name
        yield from _pair(before, after, path, old.get(name), new.get(name))


def _pair(
    before: bytes,
    after: bytes,
    path: bytes,
    old: os.stat_result | None,
    new: os.stat_result | None,
) -> Iterator[Change]:
    if old is None or new is None or stat.S_IFMT(old.st_mode) != stat.S_IFMT(new.st_mode):
        yield from _appeared(before, path, old, "-" if new is None else "T")
        yield from _appeared(after, path, new, "+" if old is None else "T")
        return
    if stat.S_ISDIR(new.st_mode):
        yield from changes(before, after, path)
    elif _content(before, path, old) != _content(after, path, new):
        yield Change("M", path, new.st_size)
    elif _metadata(old) != _metadata(new):
        yield Change("m", path, new.st_size)


def _appeared(
    root: bytes, path: bytes, status: os.stat_result | None, sign: str
) -> Iterator[Change]:
    """Yield a path that is on one side only, with all below it."""
    if status is None:
        return
    yield Change(sign, path, 0 if stat.S_ISDIR(status.st_mode) else status.st_size)
    if stat.S_ISDIR(status.st_mode):
        for name, child in entries(os.path.join(root, path)):
            yield from _appeared(root, os.path.join(path, name), child, sign)


def _content(root: bytes, path: bytes, status: os.stat_result) -> tuple[object, ...]:
    full = os.path.join(root, path)
    if stat.S_ISLNK(status.st_mode):
        return (os.readlink(full),)
    return status.st_size, status.st_rdev, attribute(full, DIGEST_ATTRIBUTE)


def _metadata(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
