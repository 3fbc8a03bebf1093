"""Keys and what they can do.  The only room that imports cryptography and blake3.

Types carry capability: `SealKey` has no way to open, `IndexKey` no way to read content.
"""
