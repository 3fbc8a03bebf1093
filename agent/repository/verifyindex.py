"""Whether the indexes of a vault tell the truth: every pack there, holding what is listed."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from agent.crypto.box import IndexKey
from agent.errors import ObjectDamaged, ObjectMissing, RepositoryError
from agent.model.ids import ID_BYTES, PackId, VaultId
from agent.repository import layout
from agent.repository.condemned import newest_record
from agent.repository.fetch import get_bounded
from agent.repository.findings import Findings
from agent.repository.indexcache import MAX_INDEX_BYTES, open_index
from agent.repository.indexfile import IndexFile, PackRow
from agent.repository.pack import FRAME_ROW, Contents
from agent.repository.packtable import read_contents, read_header
from agent.repository.verifychain import Roots
from agent.store.base import Store

_REMADE = (
    "no data are lost: `vitrine repair` makes it again from the packs, with their vault's keys"
)
_LOST_PACK = (
    "`vitrine repair` heals the pack from its parity, or brings it back from a copy (--from); "
    "where neither can, what only it held is lost, and a restore says which files those are"
)


def check_indexes(
    store: Store, vault: VaultId, key: IndexKey, roots: Roots, findings: Findings
) -> None:
    """Check every index object of a vault, the packs they list, and that `roots` are listed."""
    listed: set[PackId] = set()
    unseen = dict(roots)
    for file in _live_files(store, vault, key, findings):
        for root in [root for root in unseen if file.find(root) is not None]:
            del unseen[root]
        check = partial(_check_file, store, vault, key, file, findings)
        findings.guard(layout.index(vault, file.id), check, _REMADE)
        listed.update(row.id for row in file.packs())
    for name in unseen.values():
        findings.add(
            name,
            f"the root of {name} is in no index",
            "an index object or a pack is missing: bring it back from a copy, or take a snapshot, "
            "which indexes again what the packs hold",
        )
    for found in store.list(layout.PACKS):
        pack = layout.pack_id(found.name)
        if pack is not None and pack not in listed:
            findings.guard(found.name, partial(_count_unindexed, store, vault, pack, findings))


def _live_files(
    store: Store, vault: VaultId, key: IndexKey, findings: Findings
) -> Iterator[IndexFile]:
    """Yield the index objects that open and that no other supersedes, one in memory at a time.

    Each is opened twice: what supersedes may be larger, after a merge, or smaller, after a prune.
    """
    superseded = {old for file in _files(store, vault, key, findings) for old in file.supersedes}
    for file in _files(store, vault, key, findings):
        if file.id not in superseded:
            yield file


def _files(store: Store, vault: VaultId, key: IndexKey, findings: Findings) -> Iterator[IndexFile]:
    for listed in sorted(store.list(layout.indexes(vault))):
        if layout.index_id(listed.name) is not None:
            opened: list[IndexFile] = []
            findings.guard(listed.name, partial(_open, store, listed.name, key, opened), _REMADE)
            yield from opened


def _open(store: Store, name: str, key: IndexKey, opened: list[IndexFile]) -> None:
    box = get_bounded(store, name, MAX_INDEX_BYTES)
    opened.append(IndexFile(open_index(box, key, name), name.rsplit("/", 1)[1]))


def _check_file(
    store: Store, vault: VaultId, key: IndexKey, file: IndexFile, findings: Findings
) -> None:
    """Raise what is wrong with the index itself; what is wrong with a pack is a finding of it."""
    counts: Counter[int] = Counter()
    for record in file.renumbered(range(file.pack_count)):
        counts[int.from_bytes(record[ID_BYTES : ID_BYTES + 4], "little")] += 1
    for number, (row, end) in enumerate(file.pack_rows()):
        name = layout.pack(row.id)
        contents: list[Contents] = []
        read = partial(_read_table, store, vault, key, row, contents)
        findings.guard(name, read, _LOST_PACK)
        for found in contents:
            frames = file.frame_bytes(row.first_frame, end)
            if not _matches(file, found, frames, counts[number]):
                raise ObjectDamaged(f"the index {file.name} lists other things than {name} holds")


def _read_table(
    store: Store, vault: VaultId, key: IndexKey, row: PackRow, contents: list[Contents]
) -> None:
    name = layout.pack(row.id)
    try:
        size = store.size(name)
    except ObjectMissing:
        if _was_swept(store, vault, key, row.id):
            return  # by prune, meanwhile or under a run that went by an older index
        raise ObjectMissing(f"{name} is missing: an index lists it") from None
    if size != row.size:
        raise ObjectDamaged(f"{name} has {size} bytes instead of {row.size}")
    found = read_contents(store, key, vault, row.id, size)
    if found is None:
        raise ObjectDamaged(f"{name} belongs to another vault than the index that lists it")
    contents.append(found)


def _was_swept(store: Store, vault: VaultId, key: IndexKey, pack: PackId) -> bool:
    """Tell whether prune deleted a pack; what it deletes it has put on record before."""
    try:
        return pack in {one.pack for one in newest_record(store, vault, key).swept}
    except RepositoryError:
        return False  # the record is a finding of its own


def _matches(file: IndexFile, contents: Contents, frames: bytes, records: int) -> bool:
    """Tell whether the index lists this pack as its own table does."""
    if b"".join(FRAME_ROW.pack(*row) for row in contents.frames) != frames:
        return False
    if len(contents.chunks) != records:
        return False
    for chunk in contents.chunks:
        found = file.find(chunk.id)
        if found is None or found.length != chunk.length:
            return False
        here = found.frame.pack == contents.pack  # else stored twice, and listed there
        if here and (found.frame.number, found.offset) != (chunk.frame, chunk.offset):
            return False
    return True


def _count_unindexed(store: Store, vault: VaultId, pack: PackId, findings: Findings) -> None:
    header, _ = read_header(store, pack)
    if header.vault == vault:
        findings.count("unindexed_packs")
