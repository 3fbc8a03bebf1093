"""The files of one chain: where they lie, and what their last lines are."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from agent.audit.records import MAX_LINE_BYTES
from agent.errors import AuditBroken, AuditUnavailable

_BLOCK_BYTES: Final = 64 * 1024


class AuditFiles(NamedTuple):
    """Where a chain's files lie.  The head may lie on another disk than the chain."""

    chain: Path
    head: Path
    reserve: Path

    @classmethod
    def under(cls, directory: Path, head: Path | None = None) -> "AuditFiles":
        """Return the files of the chain in `directory`."""
        return cls(directory / "chain.jsonl", head or directory / "head", directory / "reserve")


class Line(NamedTuple):
    """A whole line without its newline, and where it starts in the file."""

    offset: int
    data: bytes


class Tail(NamedTuple):
    """The last whole lines of a file, oldest first; after `whole_bytes` a torn one may follow."""

    lines: tuple[Line, ...]
    whole_bytes: int
    size: int


def read_tail(fd: int, count: int) -> Tail:
    """Return the last `count` whole lines, reading no more than they can have at most."""
    size = os.fstat(fd).st_size
    data, start = b"", size
    limit = (count + 2) * MAX_LINE_BYTES
    while start > 0 and data.count(b"\n") <= count and len(data) < limit:
        step = min(_BLOCK_BYTES, start)
        start -= step
        data = os.pread(fd, step, start) + data
    whole = start + data.rfind(b"\n") + 1
    lines: list[Line] = []
    offset = start
    for part in data[: whole - start].split(b"\n")[:-1]:
        lines.append(Line(offset, part))
        offset += len(part) + 1
    if start > 0:
        lines = lines[1:]  # it began before what was read
    return Tail(tuple(lines[-count:] if count else ()), whole, size)


def newest_records(files: AuditFiles, count: int) -> tuple[str, ...]:
    """Return the newest `count` records as their JSON texts, oldest first, unverified.

    Raises AuditBroken where there is no chain, AuditUnavailable where it cannot be read.
    """
    try:
        fd = os.open(files.chain, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AuditBroken("the audit is gone: there is no chain file") from None
    except OSError as error:
        raise AuditUnavailable(f"the audit cannot be read: {error.strerror}") from error
    try:
        tail = read_tail(fd, count)
    finally:
        os.close(fd)
    return tuple(line.data.decode("utf-8", "replace") for line in tail.lines)
