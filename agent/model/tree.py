"""What a directory looks like in the repository (docs/format.md 6): entries, pages, extents.

A `TreePage` is a leaf with entries in byte order of their names, or an inner page that names the
pages below it.  Files name their content as packed extents of 40 bytes.  Everything here encodes
to the same bytes every time, for equal pages must be stored once.
"""

import enum
import operator
import struct
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from agent.errors import ObjectDamaged
from agent.model.decoding import UNDECODABLE
from agent.model.ids import ID_BYTES

EXTENT = struct.Struct("<32sQ")  # id, bytes covered
HOLE = bytes(ID_BYTES)  # the id of an extent that is a hole; no digest of ours is all zero
INLINE_EXTENTS = 64  # 2.5 KiB in the entry; a longer list moves to content pages

PAGE_MEAN_ENTRIES = 256  # docs/format.md 6: one changed file rewrites about 256 entries
PAGE_MAX_ENTRIES = 1024
PAGE_MAX_BYTES = 256 * 1024  # of names, xattrs and extents; bounds what one page costs to open


# What the kernel's types hold: a page of a hostile writer must not carry more into a system call.
Unsigned32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Unsigned63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Unsigned64 = Annotated[int, msgspec.Meta(ge=0)]  # MessagePack itself ends at 2**64 - 1
Signed64 = Annotated[int, msgspec.Meta(le=2**63 - 1)]  # and at -2**63


class Kind(enum.IntEnum):
    """The kinds of a directory entry (inode(7))."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    FIFO = 3
    SOCKET = 4
    CHARACTER_DEVICE = 5
    BLOCK_DEVICE = 6


class Flaw(enum.IntEnum):
    """What is wrong with an entry, so that nobody takes it for whole."""

    NONE = 0
    CHANGED_WHILE_READ = 1  # content is of one read, but the file changed during every try
    UNREADABLE = 2  # metadata only: opening or reading failed
    UNLISTED = 3  # a directory whose entries could not be listed


class Extent(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a file: `length` bytes held by chunk `id`, or a hole where `id` is `HOLE`."""

    id: bytes
    length: int

    @property
    def is_hole(self) -> bool:
        """Tell whether this stretch is a hole, which reads as zeros."""
        return self.id == HOLE


MAX_IDENTITY_BYTES = 64  # of a UID (PS3.5 9.1) and of a patient's ID (LO, PS3.5 6.2)
IdentityBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_IDENTITY_BYTES)]


class DicomIdentity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who and what a DICOM file is about, as its header says; empty where it does not, or oddly.

    Bytes as they lie in the file, padding stripped: a patient's ID is text of the file's own
    character set, and whoever wrote the file may have been hostile.
    """

    study: IdentityBytes = b""  # Study Instance UID (0020,000D)
    series: IdentityBytes = b""  # Series Instance UID (0020,000E)
    instance: IdentityBytes = b""  # SOP Instance UID (0008,0018)
    patient: IdentityBytes = b""  # Patient ID (0010,0020)
    modality: IdentityBytes = b""  # Modality (0008,0060)


_FIELDS = {
    "name": "n",
    "kind": "k",
    "mode": "m",
    "uid": "u",
    "gid": "g",
    "mtime_ns": "t",
    "ctime_ns": "e",
    "inode": "i",
    "links": "l",
    "size": "s",
    "content": "c",
    "depth": "p",
    "digest": "h",
    "target": "y",
    "device": "d",
    "xattrs": "x",
    "tree": "r",
    "files": "f",
    "bytes": "b",
    "flaw": "w",
    "origin": "o",
    "dicom": "D",
}


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, rename=_FIELDS):
    """One name in a directory, with everything needed to put it back.

    Field names in the encoding are single letters; absent means the default; a reader ignores
    letters it does not know, so that later versions may add what is not needed to restore.
    """

    name: bytes  # as the kernel gave it; never decoded
    kind: Kind = Kind.FILE
    mode: Unsigned32 = 0  # permission, set-id and sticky bits: st_mode & 0o7777
    uid: Unsigned32 = 0
    gid: Unsigned32 = 0
    mtime_ns: Signed64 = 0
    ctime_ns: Signed64 = 0
    inode: Unsigned64 = 0
    links: Unsigned64 = 1  # st_nlink; entries of equal inode share content; 1 for a directory
    size: Unsigned63 = 0  # st_size; the extents add up to it
    content: bytes = b""  # packed EXTENTs, of chunks if depth is 0, else of content pages
    depth: Unsigned32 = 0  # how many levels of content pages lie between `content` and chunks
    digest: bytes = b""  # BLAKE3 of the whole file, unkeyed: what b3sum prints
    target: bytes = b""  # of a symbolic link
    device: Unsigned64 = 0  # st_rdev of a device node
    xattrs: tuple[tuple[bytes, bytes], ...] = ()  # sorted by name; ACLs are system.posix_acl_*
    tree: bytes = b""  # of a directory: TreeId of its root page; empty for an empty directory
    files: Unsigned64 = 0  # of a directory: how many non-directories lie below it
    flaw: Flaw = Flaw.NONE
    origin: bytes = b""  # of a source at the root of a snapshot: its absolute path on the host
    dicom: DicomIdentity | None = None  # of a DICOM file, if its header could be read
    # last, for its name hides the type from what follows
    bytes: Unsigned64 = 0  # of a directory: the sum of their sizes


class PageRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A page below an inner page: the first name in it, and its id."""

    first: bytes
    id: bytes


class TreePage(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"entries": "e", "pages": "p"}
):
    """A leaf (entries, sorted by name) or an inner page (pages, sorted by first name)."""

    entries: tuple[Entry, ...] = ()
    pages: tuple[PageRef, ...] = ()

    @property
    def first_name(self) -> bytes:
        """The first name in the page or below it; empty for a page without any."""
        if self.entries:
            return self.entries[0].name
        return self.pages[0].first if self.pages else b""


_encoder = msgspec.msgpack.Encoder()
_page_decoder = msgspec.msgpack.Decoder(TreePage)


def encode_page(page: TreePage) -> bytes:
    """Return the one encoding of `page` (MessagePack, shortest forms, defaults left out)."""
    return _encoder.encode(page)


def decode_page(data: bytes) -> TreePage:
    """Return the page that `data` encodes; raise ObjectDamaged where it is not one.

    Names are as docs/format.md 6 has them: in order, each once, none that could lead out of its
    directory.  Who wrote the page may have been hostile.
    """
    try:
        page = _page_decoder.decode(data)
    except UNDECODABLE as error:
        raise ObjectDamaged(f"a tree page does not decode: {error}") from error
    if page.entries and page.pages:
        raise ObjectDamaged("a tree page is a leaf and an inner page at once")
    names = [e.name for e in page.entries] if page.entries else [p.first for p in page.pages]
    if not _are_names(names):
        raise ObjectDamaged("a tree page has a name that is out of order, or none at all")
    return page


def _are_names(names: list[bytes]) -> bool:
    """Tell whether names are in order, each once, and could all stand in a directory.

    For all of them at once: every page that is read comes by here.
    """
    together = b"".join(names)
    return (
        all(map(operator.lt, names, names[1:]))
        and not (names and not names[0])  # an empty one would be the first
        and b"/" not in together
        and b"\0" not in together
        and b"." not in names
        and b".." not in names
    )


def pack_extents(extents: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the packed form of (id, length) pairs: 40 bytes each."""
    return b"".join(EXTENT.pack(id_, length) for id_, length in extents)


def unpack_extents(packed: bytes | memoryview) -> Iterator[Extent]:
    """Yield the extents of `packed`; raise ObjectDamaged on a torn one."""
    if len(packed) % EXTENT.size:
        raise ObjectDamaged("a list of extents ends inside an extent")
    for id_, length in EXTENT.iter_unpack(packed):
        yield Extent(id_, length)
