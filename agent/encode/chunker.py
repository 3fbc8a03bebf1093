"""Content-defined cuts: FastCDC (Xia et al., IEEE TPDS 2020) with a gear table of the vault's own.

The seed comes from the vault's id key, so cut positions do not fingerprint known files for
somebody without it (docs/threat-model.md, chunking attacks).
"""

from collections.abc import Iterator

from pyfastcdc import FastCDC

KiB = 1024
MiB = 1024 * KiB

# docs/format.md 5: a mean of about 1 MiB is restic's too; smaller cuts cost index entries,
# larger ones cost deduplication of edited files
MIN_CHUNK_BYTES = 256 * KiB
AVERAGE_CHUNK_BYTES = 768 * KiB  # on top of the minimum: the mean is about 1 MiB
MAX_CHUNK_BYTES = 4 * MiB


class Chunker:
    """Cuts one stream at a time; not for concurrent use."""

    __slots__ = ("_cdc",)

    def __init__(self, seed: int) -> None:
        """Take the vault's 64-bit cut seed."""
        self._cdc = FastCDC(
            AVERAGE_CHUNK_BYTES, min_size=MIN_CHUNK_BYTES, max_size=MAX_CHUNK_BYTES, seed=seed
        )

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the chunks of a whole file; a small one is one chunk, an empty one none."""
        if len(data) <= MIN_CHUNK_BYTES:
            if data:
                yield data
            return
        for chunk in self._cdc.cut_buf(data):
            yield chunk.data

    def cut_some(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the chunks of `data` that are final while more of the stream is to come.

        Cuts depend only on what lies before them since the last cut, and on at most
        MAX_CHUNK_BYTES: so a chunk is final once that much follows its start.  What is not
        yielded is the caller's to put in front of the next piece.
        """
        start = 0
        for chunk in self._cdc.cut_buf(data):
            if len(data) - start < MAX_CHUNK_BYTES:
                return
            yield chunk.data
            start += chunk.length
