"""Values that travel between rooms: no I/O, no trio, no keys."""
