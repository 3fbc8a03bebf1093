"""Where a chain ends after a crash: what the head vouches for, and what may stay behind it."""

import os
from typing import Final, NamedTuple

from agent.audit.files import Line, read_tail
from agent.audit.head import HeadRead
from agent.audit.records import MAX_LINE_BYTES, decode, line_hash
from agent.crypto.naming import object_name
from agent.errors import AuditBroken

RECORDS_AN_APPEND: Final = 2  # the record, and the signature that was due
MAX_AHEAD: Final = 2 * RECORDS_AN_APPEND
"""Records beyond the head: of the append whose head was not written, and where the newer slot of
the head was torn, of the one before."""

_MAX_TORN_BYTES: Final = (MAX_AHEAD + 1) * MAX_LINE_BYTES


class End(NamedTuple):
    """The last record to build on, and what a repair has to say.

    `unconfirmed` records link to the chain, yet nobody was told that they are durable; beyond
    `size` lies what a crash tore: `torn_bytes`, whose BLAKE3 is `torn_hash`.
    """

    seq: int
    hash: str
    size: int
    unconfirmed: int
    torn_bytes: int
    torn_hash: str
    damaged_heads: int

    @property
    def clean(self) -> bool:
        """Tell whether the chain was left as a service leaves it."""
        return not (self.unconfirmed or self.torn_bytes or self.damaged_heads)


def find_end(fd: int, read: HeadRead) -> End:
    """Return where the chain in `fd` ends; raise AuditBroken unless its head is in place.

    Only what was never acknowledged can count as torn: a record that the head vouches for and
    that is not there means that the end was cut off, or changed.
    """
    head = read.head
    tail = read_tail(fd, MAX_AHEAD + RECORDS_AN_APPEND)
    at = next((i for i, x in enumerate(tail.lines) if line_hash(x.data) == head.hash), None)
    if at is None:
        raise _broken(head.seq, "is not where the signed head says: the end was cut or changed")
    anchor, *beyond = tail.lines[at:]
    linked = _linked(beyond, head.seq, head.hash)
    if len(linked) > MAX_AHEAD:
        raise _broken(head.seq, "is followed by more than a crash can leave: something was added")
    last = linked[-1] if linked else anchor
    size = last.offset + len(last.data) + 1
    if tail.size - size > _MAX_TORN_BYTES:
        raise _broken(head.seq + len(linked), "is followed by more than a crash can tear")
    torn = os.pread(fd, tail.size - size, size)
    return End(
        seq=head.seq + len(linked),
        hash=line_hash(last.data),
        size=size,
        unconfirmed=len(linked),
        torn_bytes=len(torn),
        torn_hash=object_name(torn).hex() if torn else "",
        damaged_heads=read.damaged,
    )


def _linked(lines: list[Line], seq: int, previous: str) -> list[Line]:
    """Return the lines, from the first, that continue the chain after record `seq`."""
    linked: list[Line] = []
    for number, line in enumerate(lines, seq + 1):
        try:
            record = decode(line.data, number)
        except AuditBroken:
            break  # torn: what follows was never acknowledged
        if (record.seq, record.prev) != (number, previous):
            break
        linked.append(line)
        previous = line_hash(line.data)
    return linked


def _broken(number: int, what: str) -> AuditBroken:
    return AuditBroken(
        f"audit record {number} {what}",
        hint="keep the files as they are, and run `vitrine audit verify`",
    )
