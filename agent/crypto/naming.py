"""Names made of content: BLAKE3, keyed for what is inside a vault, plain for objects.

Chunks and tree pages are named under keys of their own, derived from the vault's id key, so that
the content of a file can never carry the name of a tree page (compare CVE-2023-36811).
"""

from blake3 import blake3

from agent.model.ids import ChunkId, HostId, TreeId

ID_KEY_BYTES = 32
_CHUNK_CONTEXT = "vitrine 2026-11 chunk names"
_TREE_CONTEXT = "vitrine 2026-11 tree names"
_63_BITS = 2**63 - 1
_CUT_CONTEXT = "vitrine 2026-11 chunker seed"


class IdKey:
    """Names the chunks and tree pages of one vault, and seeds its chunker."""

    __slots__ = ("_chunks", "_trees", "cut_seed", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the vault's 32-byte id key."""
        if len(raw) != ID_KEY_BYTES:
            raise ValueError(f"an id key has {ID_KEY_BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self._chunks = derive(_CHUNK_CONTEXT, raw)
        self._trees = derive(_TREE_CONTEXT, raw)
        # never 0: the library reads that as "use the published gear table"; and 63 bits, for the
        # library shifts its seed and refuses what then has more than 64
        self.cut_seed = int.from_bytes(derive(_CUT_CONTEXT, raw)[:8], "little") & _63_BITS | 1

    def chunk_id(self, data: bytes | bytearray | memoryview) -> ChunkId:
        """Return the name of the data chunk `data`."""
        return ChunkId(blake3(data, key=self._chunks).digest())

    def tree_id(self, page: bytes | bytearray | memoryview) -> TreeId:
        """Return the name of a tree page or content page."""
        return TreeId(blake3(page, key=self._trees).digest())


def derive(context: str, secret: bytes) -> bytes:
    """Return a 32-byte key for one purpose (BLAKE3 derive_key mode, specification 2.3)."""
    return blake3(secret, derive_key_context=context).digest()


def object_name(data: bytes | bytearray | memoryview) -> bytes:
    """Return the 32-byte public name of an object: BLAKE3 of its bytes, no key."""
    return blake3(data).digest()


def host_id(public_key: bytes) -> HostId:
    """Return the name of the writer that holds `public_key` (Ed25519, 32 bytes)."""
    return HostId(blake3(public_key).digest()[:16])


class ObjectHasher:
    """BLAKE3 over what comes in pieces: objects while they grow, files while they are read."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        """Start with nothing hashed."""
        self._hash = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """Return the 32-byte digest of all pieces so far."""
        return self._hash.digest()
