"""What a mount costs that holds nothing: the floor under every mount case.

    python -m benchmarks.null_mount [--rounds 3]

A file system answers each request at once, from constant bytes; `tar` reads as many files, of the
mean size, as the mount cases do.  Once through pyfuse3 and trio, as fsdriver asks and answers, with
files given to the kernel with their open and without, and requests waited for eagerly
(fsdriver/waiting.py) and as pyfuse3 does; once by the kernel's bare protocol in the
same Python, which shows what of that is the library's.  Needs root: it mounts.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_IFDIR, S_IFREG

import pyfuse3
import trio

from agent.clock import SystemClock
from agent.launcher import mounting
from benchmarks.measure import Cost, metered
from fsdriver.waiting import Eager

_CASES = (("images", 1_467, 341_000), ("records", 17_010, 3_900))
_SERVERS = ("pyfuse3, eager, given", "pyfuse3, given at open", "pyfuse3", "bare protocol")
_ROOT = Path(__file__).parent.parent
_HOLDS_S = 86_400
_MOST = 1024 * 1024
_ROOT_INODE, _FIRST = 1, 2  # the file named N is the inode N + 2


class NullFiles(pyfuse3.Operations):
    """Files of one size, named by number, all of the same bytes."""

    def __init__(self, size: int, *, gives: bool) -> None:
        """Answer with zeros; `gives` a file's bytes to the kernel with the first open."""
        super().__init__()
        self._data = bytes(size)
        self._gives = gives

    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        """Return a file's attributes, or the directory's."""
        found = pyfuse3.EntryAttributes()
        found.st_ino = inode
        found.st_mode = S_IFDIR | 0o755 if inode == _ROOT_INODE else S_IFREG | 0o644
        found.st_size = 0 if inode == _ROOT_INODE else len(self._data)
        found.entry_timeout = found.attr_timeout = _HOLDS_S
        return found

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Return the attributes of a name."""
        return await self.getattr(_FIRST + int(name))

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Return a handle."""
        if self._gives:
            pyfuse3.notify_store(inode, 0, self._data)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return zeros."""
        return self._data[off : off + size]

    async def release(self, fh: int) -> None:
        """Let go of nothing."""

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        """Let go of nothing."""


def _serve_pyfuse3(descriptor: int, size: int, *, gives: bool) -> None:
    pyfuse3.init(NullFiles(size, gives=gives), f"/dev/fd/{descriptor}", set())
    trio.run(pyfuse3.main)


_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_INIT_OUT, _ATTR = struct.Struct("=IIIIHHIIHHI28x"), struct.Struct("=6Q10I")
_READ_IN = struct.Struct("=QQI")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _INIT, _BATCH = 1, 2, 3, 14, 15, 18, 26, 42
_FLAGS = 1 << 0 | 1 << 22  # asynchronous reads; requests of more than 32 pages
_KEEP_CACHE = 1 << 1


def _serve_bare(descriptor: int, size: int) -> None:
    room, data = bytearray(2 * _MOST), bytes(size)
    os.set_blocking(descriptor, True)
    while True:
        try:
            length = os.readv(descriptor, [room])
        except OSError:
            return  # unmounted
        _, opcode, unique, node, *_ = _IN.unpack_from(room)
        if opcode in {_FORGET, _BATCH}:
            continue
        answer = _bare_answer(opcode, node, room[_IN.size : length], data)
        error = -38 if answer is None else 0  # ENOSYS
        body = answer or b""
        os.writev(descriptor, [_OUT.pack(_OUT.size + len(body), error, unique), body])


def _bare_answer(opcode: int, node: int, body: bytearray, data: bytes) -> bytes | None:
    if opcode == _INIT:
        return _INIT_OUT.pack(7, 31, _MOST, _FLAGS, 64, 48, 4096, 1, _MOST // 4096, 0, 0)
    if opcode == _LOOKUP:
        inode = _FIRST + int(body[:-1])
        return struct.pack("=QQQQII", inode, 0, _HOLDS_S, _HOLDS_S, 0, 0) + _attr(inode, data)
    if opcode == _GETATTR:
        return struct.pack("=QII", _HOLDS_S, 0, 0) + _attr(node, data)
    if opcode == _OPEN:
        return struct.pack("=QII", node, _KEEP_CACHE, 0)
    if opcode == _READ:
        _, offset, length = _READ_IN.unpack_from(body)
        return data[offset : offset + length]
    return b"" if opcode == _RELEASE else None


def _attr(inode: int, data: bytes) -> bytes:
    is_root = inode == _ROOT_INODE
    mode, size = (S_IFDIR | 0o755, 0) if is_root else (S_IFREG | 0o644, len(data))
    return _ATTR.pack(inode, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextmanager
def _mounted(server: str, size: int) -> Iterator[tuple[Path, int]]:
    """Serve meanwhile; yield the mount point and the server's process."""
    point = Path(tempfile.mkdtemp(prefix="null-mount-"))
    fuse = mounting.mount_fuse(point, os.geteuid(), os.getegid())
    mounting.raise_read_ahead(point)
    command = [sys.executable, "-m", "benchmarks.null_mount", "--serve", server]
    command += ["--descriptor", str(fuse), "--size", str(size)]
    process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[fuse])
    os.close(fuse)
    try:
        (point / "0").stat()  # waits until it answers
        yield point, process.pid
    finally:
        mounting.detach(point)
        process.kill()
        process.wait()
        point.rmdir()


def _tar(server: str, files: int, size: int) -> Cost:
    """Have tar read all files in order; see that it got them."""
    with _mounted(server, size) as (point, pid):
        names = b"".join(b"%d\0" % number for number in range(files))
        command = ["tar", "--create", "--file=-", "-C", str(point), "--null", "--files-from=-"]
        with (
            metered(pid) as meter,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tar,
            subprocess.Popen(["wc", "-c"], stdin=tar.stdout, stdout=subprocess.PIPE) as count,
        ):
            assert tar.stdin is not None
            tar.stdin.write(names)
            tar.stdin.close()
            total = int(count.communicate()[0])
        if tar.returncode or total < files * size:
            raise ValueError(f"only {total} of {files * size} bytes came")
    return meter.cost


def main(arguments: Sequence[str]) -> None:
    """Measure and print; with --serve, be the file system."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_mount", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=_SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve == "bare protocol":
        _serve_bare(options.descriptor, options.size)
    elif options.serve:
        if "eager" in options.serve:
            pyfuse3.trio = Eager(lambda: False, SystemClock())  # type: ignore[attr-defined]
        _serve_pyfuse3(options.descriptor, options.size, gives="given" in options.serve)
    else:
        for _ in range(options.rounds):
            _round()


def _round() -> None:
    for case, files, size in _CASES:
        for server in _SERVERS:
            cost = _tar(server, files, size)
            each = cost.seconds / files * 1e6
            print(
                f"{case:8} {server:24} {cost.seconds:6.2f} s {cost.cpu_seconds:6.2f} s of processor"
                f" {each:6.0f} µs a file",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
