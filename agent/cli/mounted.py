"""Walking an unlocked vault: which session, which snapshot in it, and what lies there.

Commands that reveal names work through the caller's own mount, so they see what the session may
see and nothing else.  The mount answers two extended attributes that are in no listing: a
directory's tree id and a file's BLAKE3; equal ids need no second look.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.cli.place import ask_gate
from agent.clock import SystemClock
from agent.control.gate_messages import AskSessions, AskSnapshots, Sessions, SnapshotLine, Snapshots
from agent.errors import SessionExpired
from agent.gate.choice import choose
from agent.gate.times import parse_when
from agent.model.ids import SHORT_HEX

TREE_ATTRIBUTE = "user.vitrine.tree"
DIGEST_ATTRIBUTE = "user.vitrine.blake3"


class Found(NamedTuple):
    """A name in a snapshot, and what stat says of it."""

    path: bytes  # relative to the snapshot
    stat: os.stat_result


def mount_of(config_dir: Path, vault: str) -> Path:
    """Return the path of the caller's open session of `vault`."""
    answer = ask_gate(config_dir, AskSessions(), Sessions)
    for session in answer.sessions:
        if session.vault == vault and session.path and Path(session.path).is_dir():
            return Path(session.path)
    raise SessionExpired(
        f"you have no open session of vault {vault!r}", hint=f"run `vitrine unlock {vault}`"
    )


def snapshot_lines(config_dir: Path, vault: str, mount: Path) -> tuple[SnapshotLine, ...]:
    """Return the vault's snapshots that the mount shows, oldest first.

    Those taken after the session began are not among them.
    """
    shown_there = set(os.listdir(mount / "snapshots"))
    lines = ask_gate(config_dir, AskSnapshots(vault), Snapshots).snapshots
    return tuple(line for line in lines if line.id[:SHORT_HEX] in shown_there)


def snapshot_at(lines: tuple[SnapshotLine, ...], text: str) -> SnapshotLine:
    """Return the snapshot that `text` means: an id's beginning, a time, or nothing: the latest."""
    return choose(parse_when(text, SystemClock().now_ns()), lines)


def root_of(mount: Path, line: SnapshotLine) -> bytes:
    """Return the directory in the mount that shows this snapshot."""
    return os.fsencode(mount / "snapshots" / line.id[:SHORT_HEX])


def entries(directory: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield a directory's names and what lstat says of them, in byte order."""
    with os.scandir(directory) as listing:
        for entry in sorted(listing, key=lambda entry: entry.name):
            yield entry.name, entry.stat(follow_symlinks=False)


def walk(root: bytes, seen: set[tuple[bytes, bytes]], below: bytes = b"") -> Iterator[Found]:
    """Yield everything below `root`, leaving out directories that `seen` has at the same path."""
    directory = os.path.join(root, below) if below else root
    key = (below, attribute(directory, TREE_ATTRIBUTE))
    if key[1] and key in seen:
        return
    seen.add(key)
    for name, status in entries(directory):
        path = os.path.join(below, name) if below else name
        yield Found(path, status)
        if stat.S_ISDIR(status.st_mode):
            yield from walk(root, seen, path)


def attribute(path: bytes, name: str) -> bytes:
    """Return an extended attribute of the mount, or nothing where it has none."""
    with suppress(OSError):
        return os.getxattr(path, name, follow_symlinks=False)
    return b""


def shown(path: bytes) -> str:
    """Return a name for a terminal: bytes that are no text, and control characters, escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
