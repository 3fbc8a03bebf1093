"""The kernel's clock, by which a change shows in a file's ctime: it ticks in milliseconds."""

import os
from pathlib import Path


def show_change(path: Path, before_ns: int) -> None:
    """Return once a file's ctime is another than `before_ns`, which it had before a change.

    Kernels before 6.13 give two changes within one tick the same ctime.
    """
    while path.stat().st_ctime_ns == before_ns:
        os.utime(path)
