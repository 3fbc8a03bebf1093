"""The names of things: types over bytes, so that one cannot be passed for another."""

from typing import NewType

ID_BYTES = 32  # a whole BLAKE3 digest: truncation would save 16 bytes of 48 an index entry
SHORT_HEX = 12  # what people see; unique among millions, longer prefixes are accepted too

ChunkId = NewType("ChunkId", bytes)
"""Keyed BLAKE3 of a data chunk's plaintext, 32 bytes (docs/format.md 3)."""

TreeId = NewType("TreeId", bytes)
"""Keyed BLAKE3 of a tree page's or content page's plaintext, 32 bytes; another key than chunks'."""

PackId = NewType("PackId", bytes)
"""BLAKE3 of a pack's bytes, 32 bytes: anyone can check it."""

IndexId = NewType("IndexId", bytes)
"""BLAKE3 of an index object's bytes, 32 bytes."""

SnapshotId = NewType("SnapshotId", bytes)
"""BLAKE3 of a snapshot object's bytes, 32 bytes."""

VaultId = NewType("VaultId", bytes)
"""16 random bytes, drawn when the vault is made."""

HostId = NewType("HostId", bytes)
"""16 bytes: the start of BLAKE3 of a writer's Ed25519 public key."""

SlotId = NewType("SlotId", bytes)
"""16 random bytes: one keyslot of one vault."""


def short(name: bytes) -> str:
    """Return the first characters of `name` in hexadecimal, as shown to people."""
    return name.hex()[:SHORT_HEX]
