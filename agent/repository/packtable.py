"""Reading what a pack says of itself: its header and its table, by ranged reads."""

from agent.crypto.box import IndexKey
from agent.crypto.naming import ObjectHasher
from agent.errors import ObjectDamaged
from agent.model.ids import PackId, VaultId
from agent.repository import layout
from agent.repository.pack import (
    PREAMBLE_BYTES,
    TRAILER,
    Contents,
    Header,
    open_table,
    parse_header,
    parse_trailer,
)
from agent.store.base import Store

HASH_STEP_BYTES = 4 * 1024 * 1024  # a pack is checked without being held in memory


def read_header(store: Store, pack: PackId) -> tuple[Header, bytes]:
    """Return a pack's header, and the bytes that have its key unsealed."""
    name = layout.pack(pack)
    preamble = store.get_range(name, 0, PREAMBLE_BYTES)
    return parse_header(preamble, name), preamble


def read_contents(
    store: Store, key: IndexKey, vault: VaultId, pack: PackId, size: int
) -> Contents | None:
    """Return what a pack of `size` bytes holds, or None if it belongs to another vault."""
    name = layout.pack(pack)
    if size < PREAMBLE_BYTES + TRAILER.size:
        raise ObjectDamaged(f"{name} is cut short")
    header, _ = read_header(store, pack)
    if header.vault != vault:
        return None
    trailer = store.get_range(name, size - TRAILER.size, TRAILER.size)
    offset, length = parse_trailer(trailer, size, name)
    frames, chunks = open_table(store.get_range(name, offset, length), header, key, name)
    return Contents(pack, header.kind, size, frames, chunks)


def check_structure(store: Store, pack: PackId, size: int) -> None:
    """Raise ObjectDamaged unless a pack of `size` bytes has a header and a trailer that fit."""
    name = layout.pack(pack)
    if size < PREAMBLE_BYTES + TRAILER.size:
        raise ObjectDamaged(f"{name} is cut short")
    read_header(store, pack)
    parse_trailer(store.get_range(name, size - TRAILER.size, TRAILER.size), size, name)


def check_bytes(store: Store, pack: PackId, size: int) -> None:
    """Raise ObjectDamaged unless the pack's `size` bytes are what its name says; reads them all."""
    name = layout.pack(pack)
    hasher = ObjectHasher()
    for offset in range(0, size, HASH_STEP_BYTES):
        hasher.update(store.get_range(name, offset, min(HASH_STEP_BYTES, size - offset)))
    if hasher.digest() != pack:
        raise ObjectDamaged(f"{name} is damaged: its bytes do not match its name")
