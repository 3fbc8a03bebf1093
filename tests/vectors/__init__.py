"""Frozen examples of every object: what version 1 of the format looks like, for ever."""
