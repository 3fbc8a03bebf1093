"""A snapshot of one directory of small files, written straight through a VaultWriter."""

from collections.abc import Mapping

from agent.crypto.secrets import WriterKeys
from agent.model.location import PackKind
from agent.model.snapshot import Snapshot, SnapshotInfo
from agent.model.tree import Entry, Kind, PageRef, TreePage, encode_page, pack_extents
from agent.repository.trees import cut_entries, root_of
from agent.repository.writer import Tip, VaultWriter, put_page


def store_tree(writer: VaultWriter, files: Mapping[bytes, bytes], *, pack_chunks: int = 2) -> bytes:
    """Store files and their directory, a few chunks a pack; return the snapshot's root page."""
    builder = writer.builder(PackKind.DATA)
    entries: list[Entry] = []
    held = 0
    for name, data in sorted(files.items()):
        id_ = writer.ids.chunk_id(data)
        if data and writer.claim(id_):
            builder.add(id_, data)
            held += 1
        if held == pack_chunks:
            writer.put(builder)
            builder, held = writer.builder(PackKind.DATA), 0
            writer.flush()
        content = pack_extents([(id_, len(data))]) if data else b""
        entries.append(Entry(name=name, size=len(data), content=content))
    if not builder.is_empty:
        writer.put(builder)
    pages = writer.builder(PackKind.TREE)
    leaves = [
        PageRef(leaf[0].name, put_page(writer, pages, encode_page(TreePage(entries=tuple(leaf)))))
        for leaf in cut_entries(entries)
    ]
    tree = root_of(leaves, lambda page: put_page(writer, pages, page))
    source = Entry(name=b"source", kind=Kind.DIRECTORY, tree=tree)
    root = put_page(writer, pages, encode_page(TreePage(entries=(source,))))
    if not pages.is_empty:
        writer.put(pages)
    return root


def snapshot_of(keys: WriterKeys, tip: Tip, root: bytes) -> Snapshot:
    """Return the snapshot of `root` that follows `tip`."""
    return Snapshot(
        vault=keys.vault,
        host=keys.host(),
        sequence=tip.sequence + 1,
        previous=tip.id,
        root=root,
        started_ns=1,
        taken_ns=2,
        files=0,
        bytes=0,
    )


def commit_tree(
    writer: VaultWriter, keys: WriterKeys, files: Mapping[bytes, bytes], *, pack_chunks: int = 2
) -> SnapshotInfo:
    """Store the files and commit a snapshot of them."""
    root = store_tree(writer, files, pack_chunks=pack_chunks)
    return writer.commit(snapshot_of(keys, writer.tip(), root))
