"""Whether two directories are the same to whoever looks: every name and all that belongs to it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def differences(first: Path, second: Path, *, holes: bool = True) -> list[str]:
    """Return how two trees differ; empty: not at all."""
    ours, theirs = dict(_described(first, holes)), dict(_described(second, holes))
    found = [f"only in the first: {path!r}" for path in ours.keys() - theirs.keys()]
    found += [f"only in the second: {path!r}" for path in theirs.keys() - ours.keys()]
    for path in sorted(ours.keys() & theirs.keys()):
        found += [
            f"{path!r}: {what} {ours[path].get(what)!r}, not {theirs[path].get(what)!r}"
            for what in ours[path].keys() | theirs[path].keys()
            if ours[path].get(what) != theirs[path].get(what)
        ]
    return found


def _described(root: Path, holes: bool) -> Iterator[tuple[bytes, dict[str, object]]]:
    first_names: dict[int, bytes] = {}
    for path in _paths(os.fsencode(root), b""):
        yield path, _description(os.fsencode(root), path, first_names, holes)


def _paths(root: bytes, above: bytes) -> Iterator[bytes]:
    for name in sorted(os.listdir(os.path.join(root, above))):
        path = os.path.join(above, name)
        yield path
        if stat.S_ISDIR(os.lstat(os.path.join(root, path)).st_mode):
            yield from _paths(root, path)


def _description(
    root: bytes, path: bytes, first_names: dict[int, bytes], holes: bool
) -> dict[str, object]:
    whole = os.path.join(root, path)
    st = os.lstat(whole)
    found: dict[str, object] = {
        "mode": oct(st.st_mode),
        "owner": (st.st_uid, st.st_gid),
        "mtime": st.st_mtime_ns,
        "xattrs": sorted(
            (name, os.getxattr(whole, name, follow_symlinks=False))
            for name in os.listxattr(whole, follow_symlinks=False)
        ),
    }
    if not stat.S_ISDIR(st.st_mode):
        found["linked with"] = first_names.setdefault(st.st_ino, path)
        found["links"] = st.st_nlink
    if stat.S_ISREG(st.st_mode):
        found["content"] = Path(os.fsdecode(whole)).read_bytes()
        if holes:
            found["holes"] = list(_holes(whole, st.st_size))
    elif stat.S_ISLNK(st.st_mode):
        found["target"] = os.readlink(whole)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        found["device"] = st.st_rdev
    return found


def _holes(path: bytes, size: int) -> Iterator[tuple[int, int]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            hole = os.lseek(descriptor, at, os.SEEK_HOLE)
            if hole >= size:
                return
            try:
                at = os.lseek(descriptor, hole, os.SEEK_DATA)
            except OSError:  # ENXIO: the hole goes to the end
                at = size
            yield hole, at
    finally:
        os.close(descriptor)
