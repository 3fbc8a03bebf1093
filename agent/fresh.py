"""Memory that is about to be filled, and is therefore not filled with zeros first.

`bytearray(n)` has the kernel hand over every page, and writes it, with the interpreter's lock
held; what opens or decodes into it then writes it again, without.
"""

import ctypes

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
