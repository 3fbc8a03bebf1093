"""Packs: many frames in one object, each sealed, with a sealed table of what lies where.

Bytes, all integers little-endian (docs/format.md 4):

    header   36  "VITRPACK", version, suite, kind, 0, vault (16), epoch u32, sealed length u32
    key       L  the pack's random key, HPKE-sealed with the header as context
    frames       ciphertext and tag, one after another
    table        a box under the index key: which frames, which chunks
    trailer  16  table offset u32, table length u32, "VITREND1"

The table opens with the index key alone, so an index can be rebuilt by a holder that cannot read
content.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from agent.crypto.box import IndexKey
from agent.crypto.naming import ObjectHasher
from agent.crypto.packkeys import SEALED_KEY_BYTES, TAG_BYTES, FrameCipher, SealKey
from agent.encode.codecs import MAX_PLAIN_BYTES, squeeze
from agent.errors import ObjectDamaged, RepositoryTooNew
from agent.fresh import mapped
from agent.model.ids import PackId, VaultId
from agent.model.location import FrameLocation, PackKind
from agent.repository import layout
from agent.store.base import Draft

MAGIC = b"VITRPACK"
END_MAGIC = b"VITREND1"
VERSION = 1
SUITE = 1  # AES-256-GCM, BLAKE3, HPKE MLKEM768-X25519; 2 is reserved for SM4 and SM3
HEADER = struct.Struct("<8sBBBB16sII")
TRAILER = struct.Struct("<II8s")
FRAME_ROW = struct.Struct("<IIIB3x")  # offset, stored, plain, codec
CHUNK_ROW = struct.Struct("<32sIII")  # id, frame, offset in its plaintext, length
_COUNTS = struct.Struct("<II")
_Buffer = bytes | bytearray | memoryview
Placed = tuple[bytes, int, int]
"""A chunk in a frame: id, offset in the frame's plaintext, length."""
_FRAME_CONTEXT = struct.Struct("<32sIBI")  # header digest, frame number, codec, plain length
PREAMBLE_BYTES = HEADER.size + SEALED_KEY_BYTES  # what a reader must send to have a key unsealed

MiB = 1024 * 1024
TARGET_BYTES = 32 * MiB  # fewer objects, against the cost of one lost pack: docs/format.md 4
GROUP_BYTES = 512 * 1024  # small chunks share a frame: better ratio, one seal for hundreds
ALONE_BYTES = 128 * 1024  # a chunk from here on has a frame of its own: ranged reads stay cheap
FULL_CHUNKS = 64 * 1024  # of tiny chunks: bounds the table, and what reading it costs
STAGE_BYTES = MiB  # sealed, and written to the store at once
MAX_TABLE_BYTES = 16 * MiB  # four times what that comes to; a lying trailer costs no more


class FrameRow(NamedTuple):
    """A frame in a pack's table."""

    offset: int
    stored: int
    plain: int
    codec: int


class ChunkRow(NamedTuple):
    """A chunk, or tree page, in a pack's table."""

    id: bytes
    frame: int
    offset: int
    length: int


class Contents(NamedTuple):
    """What one pack holds."""

    pack: PackId
    kind: PackKind
    size: int
    frames: list[FrameRow]
    chunks: list[ChunkRow]


class Header(NamedTuple):
    """A pack's first bytes: clear header and sealed key."""

    kind: PackKind
    vault: VaultId
    epoch: int
    context: bytes  # what the sealed key is bound to
    sealed_key: bytes
    digest: bytes  # of header and sealed key; bound into every frame


class PackBuilder:
    """Writes one pack; `add` chunks, then `finish` once.  For one thread at a time.

    What is sealed goes to the store as it comes: memory does not grow with the pack.
    """

    def __init__(
        self,
        seal: SealKey,
        index: IndexKey,
        vault: VaultId,
        epoch: int,
        kind: PackKind,
        draft: Draft,
    ) -> None:
        """Start a pack with a fresh key, in an empty draft, which is then this builder's."""
        clear = HEADER.pack(MAGIC, VERSION, SUITE, kind, 0, vault, epoch, SEALED_KEY_BYTES)
        cipher, sealed_key = seal.new_pack_cipher(clear)
        self.kind = kind
        self._index = index
        self._cipher = cipher
        self._digest = _preamble_digest(clear + sealed_key)
        self._hasher = ObjectHasher()
        self._draft = draft
        self._stage = mapped(STAGE_BYTES)
        self._staged = 0
        self._frames: list[FrameRow] = []
        self._chunks: list[ChunkRow] = []
        self._group = bytearray()
        self._grouped: list[Placed] = []
        self.stored_bytes = 0
        self._append(clear + sealed_key)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was added yet."""
        return not self._chunks and not self._grouped

    @property
    def is_full(self) -> bool:
        """Tell whether the pack has reached its target size or holds enough chunks."""
        chunks = len(self._chunks) + len(self._grouped)
        return self.stored_bytes >= TARGET_BYTES or chunks >= FULL_CHUNKS

    def add(self, id_: bytes, data: bytes | bytearray | memoryview) -> None:
        """Add a chunk; `data` may be reused by the caller as soon as this returns.

        Raises ValueError for more than any reader takes, MAX_PLAIN_BYTES: that is a bug.
        """
        if len(data) > MAX_PLAIN_BYTES:
            raise ValueError(f"a chunk of {len(data)} bytes is more than a frame may hold")
        if len(data) >= ALONE_BYTES:
            self.add_frame(*squeeze(data), len(data), [(id_, 0, len(data))])
            return
        self._grouped.append((id_, len(self._group), len(data)))
        self._group += data
        if len(self._group) >= GROUP_BYTES:
            self._close_group()

    def add_frame(
        self, codec: int, squeezed: _Buffer, plain_bytes: int, chunks: Sequence[Placed]
    ) -> None:
        """Add a frame that the caller has squeezed, as several threads may, and what lies in it."""
        number = len(self._frames)
        context = _FRAME_CONTEXT.pack(self._digest, number, codec, plain_bytes)
        sealed = self._grown(len(squeezed) + TAG_BYTES)
        self._cipher.seal_into(number, squeezed, context, sealed)
        at = self.stored_bytes - len(sealed)
        self._frames.append(FrameRow(at, len(sealed), plain_bytes, codec))
        self._chunks += [ChunkRow(id_, number, offset, length) for id_, offset, length in chunks]

    def finish(self) -> Contents:
        """Put the pack and return what it holds, once it is durable."""
        self._close_group()
        del self._cipher  # and the key with it: what was sealed stays shut
        table_offset = self.stored_bytes
        table = self._index.seal(_encode_table(self._frames, self._chunks), _table(self._digest))
        self._append(table)
        self._append(TRAILER.pack(table_offset, len(table), END_MAGIC))
        self._write()
        pack = PackId(self._hasher.digest())
        self._draft.keep(layout.pack(pack))
        return Contents(pack, self.kind, self.stored_bytes, self._frames, self._chunks)

    def drop(self) -> None:
        """Forget the pack."""
        self._draft.drop()

    def _close_group(self) -> None:
        if self._grouped:
            plain, grouped = self._group, self._grouped
            self.add_frame(*squeeze(plain), len(plain), grouped)
            self._group, self._grouped = bytearray(), []

    def _append(self, part: bytes) -> None:
        self._grown(len(part))[:] = part

    def _grown(self, length: int) -> memoryview:
        """Return where the next `length` bytes of the pack go."""
        if self._staged + length > len(self._stage):
            self._write()
            if length > len(self._stage):
                self._stage = mapped(length)
        at, self._staged = self._staged, self._staged + length
        self.stored_bytes += length
        return memoryview(self._stage)[at : self._staged]

    def _write(self) -> None:
        """Hand over what is staged; after an error the draft takes no more, and neither do we."""
        if self._staged:
            staged = memoryview(self._stage)[: self._staged]
            self._draft.write(staged)
            self._hasher.update(staged)
            self._staged = 0


def parse_header(preamble: bytes, name: str) -> Header:
    """Return the header in a pack's first PREAMBLE_BYTES; `name` is for the error."""
    if len(preamble) < PREAMBLE_BYTES:
        raise ObjectDamaged(f"{name} is cut short")
    magic, version, suite, kind, _, vault, epoch, length = HEADER.unpack_from(preamble)
    if magic != MAGIC:
        raise ObjectDamaged(f"{name} is not a pack")
    if version != VERSION or suite != SUITE:
        raise RepositoryTooNew(f"{name} has version {version}, suite {suite}; known are 1 and 1")
    if kind not in (PackKind.DATA, PackKind.TREE) or length != SEALED_KEY_BYTES:
        raise ObjectDamaged(f"{name} has an impossible header")
    clear, sealed_key = preamble[: HEADER.size], preamble[HEADER.size : PREAMBLE_BYTES]
    digest = _preamble_digest(preamble[:PREAMBLE_BYTES])
    return Header(PackKind(kind), VaultId(vault), epoch, clear, sealed_key, digest)


def parse_trailer(trailer: bytes, size: int, name: str) -> tuple[int, int]:
    """Return offset and length of the table, checked against the pack's `size`."""
    if len(trailer) != TRAILER.size:
        raise ObjectDamaged(f"{name} is cut short")
    offset, length, magic = TRAILER.unpack(trailer)
    fits = offset >= PREAMBLE_BYTES and offset + length + TRAILER.size == size
    if magic != END_MAGIC or not fits or length > MAX_TABLE_BYTES:
        raise ObjectDamaged(f"{name} has no valid trailer")
    return offset, length


def open_table(
    box: bytes, header: Header, index: IndexKey, name: str
) -> tuple[list[FrameRow], list[ChunkRow]]:
    """Return the frames and chunks that a pack's sealed table lists.

    Raises ObjectDamaged where one names what is not there: who sealed it may have been hostile.
    """
    plain = index.open(box, _table(header.digest), f"the table of {name}")
    if len(plain) < _COUNTS.size:
        raise ObjectDamaged(f"the table of {name} is cut short")
    frames, chunks = _COUNTS.unpack_from(plain)
    chunks_at = _COUNTS.size + frames * FRAME_ROW.size
    if len(plain) != chunks_at + chunks * CHUNK_ROW.size:
        raise ObjectDamaged(f"the table of {name} has the wrong length")
    view = memoryview(plain)
    rows = [FrameRow._make(row) for row in FRAME_ROW.iter_unpack(view[_COUNTS.size : chunks_at])]
    found = [ChunkRow._make(row) for row in CHUNK_ROW.iter_unpack(view[chunks_at:])]
    if any(c.frame >= frames or c.offset + c.length > rows[c.frame].plain for c in found):
        raise ObjectDamaged(f"the table of {name} has a chunk outside its frames")
    return rows, found


def open_frame(
    cipher: FrameCipher, header: Header, frame: FrameLocation, sealed: bytes | memoryview
) -> bytearray:
    """Return the squeezed plaintext of a frame; raise ObjectDamaged if any bit differs."""
    context = _FRAME_CONTEXT.pack(header.digest, frame.number, frame.codec, frame.plain)
    return cipher.open(frame.number, sealed, context)


def _preamble_digest(preamble: bytes) -> bytes:
    hasher = ObjectHasher()
    hasher.update(preamble)
    return hasher.digest()


def _table(header_digest: bytes) -> bytes:
    return b"vitrine pack table\0" + header_digest


def _encode_table(frames: list[FrameRow], chunks: list[ChunkRow]) -> bytes:
    return b"".join(
        (
            _COUNTS.pack(len(frames), len(chunks)),
            *(FRAME_ROW.pack(*row) for row in frames),
            *(CHUNK_ROW.pack(*row) for row in chunks),
        )
    )
