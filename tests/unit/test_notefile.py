"""Notes of state: replaced whole, and for good."""

import os
import stat
from pathlib import Path

import pytest

from agent.errors import StoreUnavailable
from agent.notefile import replace_durably


def test_content_is_synced_before_the_name_and_the_name_before_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could undo a freeze, or leave an empty note."""
    path, synced, sync = tmp_path / "note", list[tuple[bool, bytes]](), os.fsync
    path.write_bytes(b"old")

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_directory, path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_durably(path, b"new")
    assert synced == [(False, b"old"), (True, b"new")]
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    """And says which file."""
    path = tmp_path / "note"
    path.write_bytes(b"old")
    (tmp_path / "note.new").mkdir()
    with pytest.raises(StoreUnavailable, match="note cannot be written"):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
