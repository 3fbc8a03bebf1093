"""From events to a snapshot: watch, settle, scan, read, cut, pack, commit."""
