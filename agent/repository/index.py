"""The index of a vault: all live index objects, as one."""

import os
from collections.abc import Collection, Iterable, Iterator

from agent.model.ids import PackId
from agent.model.location import ChunkLocation, FrameLocation
from agent.repository.indexfile import IndexFile


class Index:
    """All live index files of one vault, as one."""

    def __init__(self, files: Iterable[IndexFile]) -> None:
        """Take the files; those that another one supersedes should be left out."""
        self._files = sorted(files, key=lambda file: -file.chunk_count)

    @classmethod
    def lent(cls, files: Iterable[tuple[int, str]]) -> "Index":
        """Return the index in files that another process lent, by descriptor and object id.

        The descriptors are closed.
        """
        mapped = []
        for descriptor, name in files:
            try:
                mapped.append(IndexFile.map(descriptor, name))
            finally:
                os.close(descriptor)
        return cls(mapped)

    @property
    def files(self) -> tuple[IndexFile, ...]:
        """The files, largest first."""
        return tuple(self._files)

    def find(self, id_: bytes) -> ChunkLocation | None:
        """Return where the chunk or tree page lies, or None."""
        for file in self._files:
            found = file.find(id_)
            if found is not None:
                return found
        return None

    def find_all(self, id_: bytes) -> Iterator[ChunkLocation]:
        """Yield every place that is said to hold it: a wrong or damaged one hides no other."""
        return (found for file in self._files for found in file.find_each(id_))

    def frames_after(self, id_: bytes, frame: int) -> Iterator[FrameLocation]:
        """Yield the frames behind number `frame` in the pack where `find` finds the chunk."""
        for file in self._files:
            if file.find(id_) is not None:
                return file.frames_after(id_, frame)
        return iter(())

    def __contains__(self, id_: bytes) -> bool:
        """Tell whether the chunk or tree page is stored."""
        return any(id_ in file for file in self._files)

    def unknown(
        self, ids: Iterable[bytes], doomed: Collection[PackId], relied: set[PackId]
    ) -> list[bytes]:
        """Return those of `ids` that no pack but `doomed` ones holds.

        The packs that hold the others are added to `relied`.
        """
        left = list(ids)
        for file in self._files:
            left = [id_ for id_ in left if not file.supplies(id_, doomed, relied)]
        return left
