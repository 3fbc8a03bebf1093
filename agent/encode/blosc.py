"""libblosc2 through its C interface: shuffle, byte delta and Zstandard over blocks of items.

Only the shared library of the package `blosc2` is loaded: the package itself would cost a process
0.2 s and 40 MiB (docs/decisions/0010-pixel-codecs.md).  Calls release the interpreter lock, but for
samples: to get it back from another thread takes longer than a sample does.  A context serves one
thread.  Nothing here checks a chunk: agent/encode/numeric.py does.
"""

import ctypes
import importlib.util
from pathlib import Path
from typing import Final

Buffer = bytes | bytearray | memoryview

_FILTERS: Final = 6  # slots of a chunk's pipeline
_SHUFFLE: Final = 1
_BYTE_DELTA: Final = 35  # 34 was an earlier one whose result depended on the processor
_ZSTD: Final = 5
_LEVEL: Final = 1
_SAMPLE_BYTES: Final = 8 * 1024  # up to which a chunk is a sample
_NEVER_SPLIT: Final = 2  # one stream a block
_DEFAULTS: Final = (0, 5, 0, 8, 1, 0, 4)  # of libblosc2 3: that the struct lies as we think


class _CompressParameters(ctypes.Structure):
    """`blosc2_cparams`, with room for what a later release appends."""

    _fields_ = (
        ("codec", ctypes.c_uint8),
        ("codec_meta", ctypes.c_uint8),
        ("level", ctypes.c_uint8),
        ("use_dictionary", ctypes.c_int),
        ("item_bytes", ctypes.c_int32),
        ("threads", ctypes.c_int16),
        ("block_bytes", ctypes.c_int32),
        ("split", ctypes.c_int32),
        ("super_chunk", ctypes.c_void_p),
        ("filters", ctypes.c_uint8 * _FILTERS),
        ("filters_meta", ctypes.c_uint8 * _FILTERS),
        ("rest", ctypes.c_uint8 * 256),
    )


class _DecompressParameters(ctypes.Structure):
    """`blosc2_dparams`, likewise."""

    _fields_ = (("threads", ctypes.c_int16), ("rest", ctypes.c_uint8 * 256))


def _load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """Return the library, ready for threads, and again with calls that keep the interpreter lock.

    Raises ImportError where it is not one we know.
    """
    package = importlib.util.find_spec("blosc2")  # finds it, does not import it
    if package is None or package.origin is None:
        raise ImportError("the package blosc2 is not installed")
    path = str(Path(package.origin).parent / "lib" / "libblosc2.so")
    library, keeping = ctypes.CDLL(path), ctypes.PyDLL(path)
    library.blosc2_get_version_string.restype = ctypes.c_char_p
    library.blosc2_get_blosc2_cparams_defaults.restype = _CompressParameters
    library.blosc2_get_blosc2_dparams_defaults.restype = _DecompressParameters
    library.blosc2_create_cctx.argtypes = (_CompressParameters,)
    library.blosc2_create_dctx.argtypes = (_DecompressParameters,)
    for call in (library.blosc2_create_cctx, library.blosc2_create_dctx):
        call.restype = ctypes.c_void_p
    compress, decompress = library.blosc2_compress_ctx, library.blosc2_decompress_ctx
    for call in (compress, decompress, keeping.blosc2_compress_ctx):
        call.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_int32,
        )
    library.blosc2_free_ctx.argtypes = (ctypes.c_void_p,)
    _check(library)
    library.blosc2_init()
    return library, keeping


def _check(library: ctypes.CDLL) -> None:
    """Refuse a library whose structs may lie otherwise; what it makes is checked each time."""
    version = library.blosc2_get_version_string().decode()
    now = library.blosc2_get_blosc2_cparams_defaults()
    found = (
        now.codec,
        now.level,
        now.use_dictionary,
        now.item_bytes,
        now.threads,
        now.block_bytes,
        now.split,
    )
    pipeline = (*now.filters, *now.filters_meta)
    decode = library.blosc2_get_blosc2_dparams_defaults().threads
    expected = (0,) * (_FILTERS - 1) + (_SHUFFLE,) + (0,) * _FILTERS
    if not version.startswith("3.") or (found, pipeline, decode) != (_DEFAULTS, expected, 1):
        raise ImportError(f"libblosc2 {version} is none that this program knows how to call")


_library, _keeping = _load()


class Compressor:
    """Makes chunks of items of one size, in blocks of one size.  For one thread at a time."""

    __slots__ = ("_context", "block_bytes")

    def __init__(self, item_bytes: int, block_bytes: int) -> None:
        """Take both; `block_bytes` is a multiple of `item_bytes`.

        With items of 0 bytes nothing is shuffled nor made differences: Zstandard, for a probe.
        """
        parameters = _library.blosc2_get_blosc2_cparams_defaults()
        parameters.codec, parameters.level = _ZSTD, _LEVEL
        parameters.item_bytes, parameters.block_bytes = max(1, item_bytes), block_bytes
        parameters.split = _NEVER_SPLIT
        parameters.filters[-2:] = (_SHUFFLE, _BYTE_DELTA) if item_bytes else (0, 0)
        parameters.filters_meta[-2:] = (0, item_bytes)
        self.block_bytes = block_bytes
        self._context = _library.blosc2_create_cctx(parameters)

    def __del__(self) -> None:
        """Free what the library holds."""
        _free(self)

    def compress(self, plain: Buffer, length: int, into: bytearray, room: int) -> int:
        """Write the first `length` bytes as a chunk of at most `room` bytes; return its length.

        Not above 0 where it does not fit.  At least a block, for a context keeps to the smallest
        that it has seen.
        """
        if not self.block_bytes <= length <= len(plain) or room > len(into):
            raise ValueError("a chunk outside of its buffers, or of less than a block")
        library = _keeping if length <= _SAMPLE_BYTES else _library
        written: int = library.blosc2_compress_ctx(
            self._context, _pointer(plain), length, _pointer(into), room
        )
        return written


class Decompressor:
    """Opens chunks.  For one thread at a time."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        """Take nothing: a chunk says how it is made."""
        parameters = _library.blosc2_get_blosc2_dparams_defaults()
        self._context = _library.blosc2_create_dctx(parameters)

    def __del__(self) -> None:
        """Free what the library holds."""
        _free(self)

    def decompress(self, chunk: Buffer, length: int, into: bytearray | memoryview) -> int:
        """Write the plaintext of the chunk in the first `length` bytes; return how much it is.

        Negative where it does not decode.  The chunk's header and blocks must have been checked.
        """
        if length > len(chunk):
            raise ValueError("a chunk outside of its buffer")
        written: int = _library.blosc2_decompress_ctx(
            self._context, _pointer(chunk), length, _pointer(into), len(into)
        )
        return written


def _free(holder: Compressor | Decompressor) -> None:
    context = getattr(holder, "_context", None)
    if context:
        _library.blosc2_free_ctx(context)


def _pointer(buffer: Buffer) -> object:
    """Return what ctypes passes as the address of the buffer, and which keeps it alive."""
    if isinstance(buffer, bytes):
        return buffer
    if isinstance(buffer, memoryview) and buffer.readonly:
        return bytes(buffer)  # ctypes takes the address of no other buffer that it may not write
    return ctypes.byref(ctypes.c_char.from_buffer(buffer))
