"""Named bytes, no meaning: the contract in `base`, one module an implementation."""
