"""Putting a snapshot back: which entries, into which directory, with everything they had."""
