"""The system calls behind a mount: mount(2) for one user, umount2(2), and what to tell the kernel.

Everything here needs CAP_SYS_ADMIN, and nothing here knows what is served.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import MountFailed

FS_TYPE = "fuse.vitrine"
READ_AHEAD_KIB = 1024  # the most that one FUSE read may carry; 128 by default
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8  # mount(2)
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)
_DROP_CLEAN_PAGES = "1"  # proc(5), drop_caches

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo: the kernel's device number and the mount point."""

    device: str  # major:minor
    point: bytes
    kind: str


def mount_fuse(point: Path, uid: int, gid: int) -> int:
    """Mount at `point` for `uid` alone and return the descriptor to answer the kernel on.

    Without allow_other the kernel refuses everybody else, root included; without
    default_permissions archived modes are information (docs/mount.md).  Raises MountFailed.
    """
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountFailed(
            f"cannot open /dev/fuse: {error.strerror}", hint="load it with `modprobe fuse`"
        ) from error
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    options = f"fd={fuse},rootmode=40000,user_id={uid},group_id={gid}".encode()
    if _libc.mount(b"vitrine", os.fsencode(point), FS_TYPE.encode(), flags, options):
        reason = os.strerror(ctypes.get_errno())
        os.close(fuse)
        raise MountFailed(f"the kernel refused to mount: {reason}", hint="mounting needs root")
    return fuse


def detach(point: Path) -> None:
    """Unmount lazily; what is not mounted stays so."""
    _libc.umount2(os.fsencode(point), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def mounts_below(directory: Path) -> list[Mounted]:
    """Return our mounts below `directory`, newest first."""
    prefix = os.fsencode(directory) + b"/"
    found = [one for one in _mountinfo() if one.kind == FS_TYPE and one.point.startswith(prefix)]
    return found[::-1]


def raise_read_ahead(point: Path) -> None:
    """Let the kernel read ahead further than by default, if it has a knob for this mount.

    Found through mountinfo: a stat(2) would be answered by the file system, which is not ours.
    """
    for mounted in _mountinfo():
        if mounted.point == os.fsencode(point):
            with suppress(OSError):  # slower without, and otherwise the same
                knob = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
                knob.write_text(str(READ_AHEAD_KIB), "ascii")


def drop_page_cache() -> None:
    """Make the kernel drop clean pages of every file system: of a dead worker's mount, too."""
    with suppress(OSError):  # in a container /proc/sys may be read-only
        Path("/proc/sys/vm/drop_caches").write_text(_DROP_CLEAN_PAGES, "ascii")


def _mountinfo() -> Iterator[Mounted]:
    """Yield the mounts of this namespace, oldest first (proc(5); names have octal escapes)."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        point = fields[4].decode("unicode_escape").encode("latin-1")
        yield Mounted(fields[2].decode(), point, after.split(b" ")[0].decode())
