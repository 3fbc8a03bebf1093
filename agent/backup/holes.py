"""Where a sparse file has data and where it has holes, as its file system tells."""

import errno
import os

MIN_HOLE_BYTES = 64 * 1024  # shorter ones cost more as extents than their zeros cost squeezed


def stretches(fd: int, st: os.stat_result) -> list[tuple[int, int, bool]]:
    """Return (start, end, is a hole) of a file's stretches, in order, without gaps."""
    size = st.st_size
    if st.st_blocks * 512 >= size:
        return [(0, size, False)] if size else []
    found: list[tuple[int, int, bool]] = []
    at = 0
    while at < size:
        data, hole = _next_data(fd, at, size)
        if data - at >= MIN_HOLE_BYTES:
            found.append((at, data, True))
            at = data
        if hole > at:
            if found and not found[-1][2]:
                at = found.pop()[0]
            found.append((at, hole, False))
        at = hole
    return found


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    """Return where the next data begin and end; both are the size where there are none."""
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
        hole = os.lseek(fd, data, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return at, size  # this file system does not tell: all counts as data
    return min(data, size), min(hole, size)
