"""A snapshot as a value: what one writer saw of one vault at one time (docs/format.md 7)."""

import enum

import msgspec

from agent.model.ids import HostId, SnapshotId, VaultId

FIRST_SEQUENCE = 1
NO_PREVIOUS = bytes(32)  # `previous` of a writer's first snapshot


class Trigger(enum.StrEnum):
    """Why a snapshot was taken."""

    CHANGE = "change"  # events settled
    SCHEDULE = "schedule"  # a full scan found something
    REQUEST = "request"  # somebody asked


class SourceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was incomplete about one source: counts and a reason, never a path.

    `source` is its position in the configuration order of the snapshot's root page.
    """

    label_digest: str  # first 16 hex digits of BLAKE3 of the label: labels are names too
    changed_while_read: int = 0
    unreadable: int = 0
    missing: bool = False  # the source could not be opened; its last known state is carried on


class Changes(msgspec.Struct, frozen=True, array_like=True):
    """What happened to files since the snapshot before: counts, and bytes of each."""

    added: int = 0
    changed: int = 0  # in place: the same name, other content
    removed: int = 0
    moved: int = 0  # gone under one name, come under another: neither added nor removed
    added_bytes: int = 0
    changed_bytes: int = 0  # of the new versions
    removed_bytes: int = 0


class Sign(msgspec.Struct, frozen=True, array_like=True):
    """Something that an attack would do: how many, of how many.  Never a name."""

    kind: str  # a word of agent/backup/signs.py; a reader shows what it does not know
    count: int
    of: int = 0  # 0: of nothing in particular
    since: int = 0  # this host's first snapshot with some of what was counted; 0: this one


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sealed body of a snapshot object."""

    vault: VaultId
    host: HostId
    sequence: int  # counts from 1, without gaps, for this vault and host
    previous: bytes  # SnapshotId of sequence - 1, or NO_PREVIOUS
    root: bytes  # TreeId of the root page, whose entries are the sources
    started_ns: int
    taken_ns: int  # when the last file had been read
    files: int
    bytes: int
    added_bytes: int = 0  # stored bytes of the packs that this snapshot added
    trigger: Trigger = Trigger.CHANGE
    incomplete: tuple[SourceState, ...] = ()  # empty: the snapshot is complete
    changes: Changes | None = None  # None: not counted, as by earlier versions
    signs: tuple[Sign, ...] = ()
    features: tuple[str, ...] = ()  # what a reader must understand; unknown ones are refused


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A snapshot that was read and verified, with the name it goes by."""

    id: SnapshotId
    snapshot: Snapshot
    stored_bytes: int
