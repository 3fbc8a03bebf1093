"""Memory that is about to be filled, and is therefore not filled with zeros first.

`bytearray(n)` has the kernel hand over every page, and writes it, with the interpreter's lock
held; what opens or decodes into it then writes it again, without.
"""

import ctypes
import mmap
from contextlib import suppress

_new = ctypes.pythonapi.PyByteArray_FromStringAndSize  # of the stable interface: NULL copies none
_new.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)
_new.restype = ctypes.py_object


def unfilled(size: int) -> bytearray:
    """Return `size` bytes of no particular content: whoever asks must fill all, or drop it.

    Raises MemoryError where there is no room, or for a size that no buffer can have.
    """
    if size < 0:
        raise MemoryError
    buffer: bytearray = _new(None, size)
    return buffer


def mapped(size: int) -> mmap.mmap:
    """Return `size` bytes of zeros, more than 0, that are there only as far as they are touched.

    In large pages where the kernel has them: a small one takes longer to come than to be filled.
    """
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        room.madvise(mmap.MADV_HUGEPAGE)
    return room
