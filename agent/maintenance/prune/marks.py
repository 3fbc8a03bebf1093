"""Which of the chunks that an index lists are needed: one bit a record, whatever their number."""

from collections import Counter
from collections.abc import Collection, Iterator

from agent.errors import ObjectMissing
from agent.model.ids import PackId, short
from agent.repository.index import Index
from agent.repository.indexfile import IndexFile


class Marks:
    """The needed chunks and pages of one vault."""

    def __init__(self, index: Index, present: Collection[PackId]) -> None:
        """Take the index, and the packs that are really there: other places count for nothing."""
        self._files: list[tuple[IndexFile, bytearray, list[PackId | None]]] = []
        for file in index.files:
            packs = [row.id if row.id in present else None for row in file.packs()]
            self._files.append((file, bytearray((file.chunk_count + 7) // 8), packs))

    def mark(self, id_: bytes) -> bool:
        """Mark an id as needed, at every place; tell whether it was not yet.

        Raises ObjectMissing where no pack that is there is said to hold it: the repository is
        damaged, and this is not the moment to delete from it.
        """
        is_new = found = False
        for file, bits, packs in self._files:
            for place, pack in file.places(id_):
                bit = 1 << (place & 7)
                is_new = is_new or not bits[place >> 3] & bit
                bits[place >> 3] |= bit
                found = found or packs[pack] is not None
        if not found:
            raise ObjectMissing(
                f"a snapshot needs the object {short(id_)}…, which no pack holds",
                hint="nothing was deleted; run `vitrine verify`, then `vitrine repair`",
            )
        return is_new

    def is_needed(self, id_: bytes) -> bool:
        """Tell whether an id was marked."""
        for file, bits, _ in self._files:
            for place, _pack in file.places(id_):
                return bool(bits[place >> 3] & 1 << (place & 7))
        return False

    def first_of(self, id_: bytes, packs: Collection[PackId]) -> PackId | None:
        """Return the first of `packs` that is there and said to hold an id."""
        return next((pack for _, pack in self._places(id_) if pack in packs), None)

    def is_held(self, id_: bytes, leaving: Collection[PackId]) -> bool:
        """Tell whether a pack that is there and not leaving is said to hold an id."""
        return any(pack not in leaving for _, pack in self._places(id_))

    def used_bytes(self, last_resort: Collection[PackId]) -> Counter[PackId]:
        """Return how many bytes of plaintext of each pack are needed, a chunk counted at one place.

        Packs in `last_resort` count only for what nobody else holds: they are on their way out.
        """
        used: Counter[PackId] = Counter()
        for number, (file, bits, packs) in enumerate(self._files):
            for place, id_, pack, length in file.records():
                here = packs[pack]
                if here is None or not bits[place >> 3] & 1 << (place & 7):
                    continue
                if self._chosen(id_, last_resort) == (number, here):
                    used[here] += length
        return used

    def total_bytes(self) -> Counter[PackId]:
        """Return how many bytes of plaintext each pack holds, by the index."""
        total: Counter[PackId] = Counter()
        for file, _, packs in self._files:
            for _place, _id, pack, length in file.records():
                if (here := packs[pack]) is not None:
                    total[here] += length
        return total

    def _chosen(self, id_: bytes, last_resort: Collection[PackId]) -> tuple[int, PackId] | None:
        """Return the place that counts: the first that is not a last resort, else the first."""
        resort: tuple[int, PackId] | None = None
        for number, pack in self._places(id_):
            if pack not in last_resort:
                return number, pack
            resort = resort or (number, pack)
        return resort

    def _places(self, id_: bytes) -> Iterator[tuple[int, PackId]]:
        for number, (file, _, packs) in enumerate(self._files):
            for _place, pack in file.places(id_):
                if (here := packs[pack]) is not None:
                    yield number, here
