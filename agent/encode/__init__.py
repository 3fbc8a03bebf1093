"""Where to cut a stream of bytes, and how to squeeze the pieces.  No keys, no I/O."""
