"""A name is given once, on every kind of file system."""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.restore import rename


class OldFileSystem:
    """renameat2(2) where the file system knows no flags."""

    def renameat2(self, *_: object) -> int:
        """Refuse."""
        ctypes.set_errno(errno.EINVAL)
        return -1


def _no_links(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "no hard links here")


@pytest.fixture(params=["renameat2", "links", "neither"])
def directory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Return a directory with a file `t`, on file systems that can do more and less."""
    if request.param != "renameat2":
        monkeypatch.setattr(rename, "_libc", OldFileSystem())
    if request.param == "neither":
        monkeypatch.setattr(os, "link", _no_links)
    (tmp_path / "t").write_bytes(b"new")
    descriptor = os.open(tmp_path, os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_free_name_is_taken(directory: int, tmp_path: Path) -> None:
    """The file has its name and no other."""
    rename.to_free_name(directory, b"t", b"name")
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == b"new"


@pytest.mark.parametrize("dangling", [False, True])
def test_a_taken_name_is_left_alone(directory: int, tmp_path: Path, dangling: bool) -> None:
    """Neither a file nor a link to nowhere is replaced."""
    if dangling:
        (tmp_path / "name").symlink_to("nowhere")
    else:
        (tmp_path / "name").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        rename.to_free_name(directory, b"t", b"name")
    assert sorted(os.listdir(tmp_path)) == ["name", "t"]
    assert (tmp_path / "name").is_symlink() == dangling


def test_what_is_not_there_is_an_error(directory: int) -> None:
    """It is told as what it is."""
    with pytest.raises(FileNotFoundError):
        rename.to_free_name(directory, b"gone", b"name")
