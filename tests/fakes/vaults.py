"""Vaults for tests: made in any store, cheap to open, and read back the way a recovery does it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.crypto.keyslots import PassphraseCost, wrap_for_passphrase
from agent.crypto.secrets import VaultSecrets, WriterKeys
from agent.crypto.signing import SigningKey
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import HOLE, Entry, Flaw, Kind
from agent.repository import layout
from agent.repository.chain import Chains
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.repository.packtable import read_contents
from agent.repository.reader import VaultReader
from agent.repository.removals import read_removals
from agent.repository.vaults import add_slot, create_repository, enrol_writer, enrolled_writers
from agent.store.base import Store

PASSPHRASE = "correct horse battery staple"
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)


class Vault(NamedTuple):
    """A vault's secrets, and the write-only keys of one enrolled host."""

    secrets: VaultSecrets
    writer: WriterKeys


def make_vault(
    store: Store, name: str = "radiology", department: str = "imaging", level: int = 4
) -> Vault:
    """Make a vault with a recovery keyslot (PASSPHRASE) and one enrolled writer.

    The repository is made too, where there is none.
    """
    if not any(True for _ in store.list("")):
        create_repository(store, 0)
    secrets = VaultSecrets.generate(name, department, level)
    add_slot(store, wrap_for_passphrase(secrets, PASSPHRASE, "recovery", CHEAP))
    return Vault(secrets, make_writer(store, secrets))


def make_writer(store: Store, secrets: VaultSecrets, host: str = "pacs1") -> WriterKeys:
    """Enrol another host; return its keys."""
    writer = secrets.writer(SigningKey.generate().raw)
    enrol_writer(store, secrets, host, writer.signer().verify_key().raw)
    return writer


def snapshots(store: Store, secrets: VaultSecrets) -> list[SnapshotInfo]:
    """Return the vault's snapshots, the chain verified."""
    keys = secrets.reader()
    writers = enrolled_writers(store, keys.vault, keys.authority_key())
    chains = Chains(store, keys.vault, keys.index(), writers)
    return list(chains.snapshots(read_removals(store, keys)))


def open_reader(store: Store, secrets: VaultSecrets, cache: Path) -> VaultReader:
    """Return a reader with the opening keys at hand; `cache` is a directory for index copies."""
    index = IndexCache(cache, store, secrets.vault, secrets.reader().index()).refresh()
    frames = FrameReader(store, secrets.vault, OpeningKeys.of(secrets), cache_bytes=64 << 20)
    return VaultReader(frames, index, secrets.reader().ids())


def stored_ids(store: Store, secrets: VaultSecrets) -> list[bytes]:
    """Return the id of every chunk and page in every pack of the vault, as often as it is there."""
    found: list[bytes] = []
    for listed in store.list(layout.PACKS):
        pack = layout.pack_id(listed.name)
        assert pack is not None
        key = secrets.reader().index()
        contents = read_contents(store, key, secrets.vault, pack, listed.size)
        found += [chunk.id for chunk in contents.chunks] if contents else []
    return found


def content(reader: VaultReader, entry: Entry) -> bytes:
    """Return a whole file."""
    parts: list[bytes] = []
    for offset, extent in reader.extents(entry):
        assert offset == sum(len(part) for part in parts)
        parts.append(bytes(extent.length) if extent.id == HOLE else bytes(reader.chunk(extent.id)))
    return b"".join(parts)


def walk(reader: VaultReader, root: bytes, above: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
    """Yield (path, entry) of everything below a root page."""
    for entry in reader.entries(root):
        path = above + b"/" + entry.name if above else entry.name
        yield path, entry
        if entry.kind is Kind.DIRECTORY:
            yield from walk(reader, entry.tree, path)


def differences(reader: VaultReader, root: bytes, directory: bytes) -> list[str]:
    """Return how a stored directory differs from the one on the disk; empty: not at all."""
    stored = dict(walk(reader, root))
    found = dict(_on_disk(directory))
    complaints = [f"only stored: {path!r}" for path in stored.keys() - found.keys()]
    complaints += [f"only on disk: {path!r}" for path in found.keys() - stored.keys()]
    for path in stored.keys() & found.keys():
        complaints += [
            f"{path!r}: {what}"
            for what in _differences(reader, stored[path], directory + b"/" + path, found[path])
        ]
    return complaints


def is_current(reader: VaultReader, root: bytes, directory: bytes) -> bool:
    """Tell whether a stored directory is the one on the disk, by what the kernel notes of changes.

    Nothing is read of files, so that a source may be looked at while it is written to.
    """
    stored = {
        path: (entry.inode, entry.mtime_ns, 0 if entry.kind is Kind.DIRECTORY else entry.ctime_ns)
        for path, entry in walk(reader, root)
    }
    try:
        return stored == {
            path: (st.st_ino, st.st_mtime_ns, 0 if stat.S_ISDIR(st.st_mode) else st.st_ctime_ns)
            for path, st in _on_disk(directory)
        }
    except FileNotFoundError:  # it changes just now
        return False


def _on_disk(directory: bytes, above: bytes = b"") -> Iterator[tuple[bytes, os.stat_result]]:
    for name in os.listdir(directory):
        path = above + b"/" + name if above else name
        st = os.lstat(directory + b"/" + name)
        yield path, st
        if stat.S_ISDIR(st.st_mode):
            yield from _on_disk(directory + b"/" + name, path)


_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def _differences(
    reader: VaultReader, entry: Entry, path: bytes, st: os.stat_result
) -> Iterator[str]:
    """Yield what of an entry differs from what is on the disk."""
    names = os.listxattr(path, follow_symlinks=False)
    is_file = entry.kind is Kind.FILE and stat.S_ISREG(st.st_mode)
    is_device = entry.kind in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}
    pairs: dict[str, tuple[object, object]] = {
        "mode": (_FORMATS[entry.kind] | entry.mode, st.st_mode),
        "owner": ((entry.uid, entry.gid), (st.st_uid, st.st_gid)),
        "mtime": (entry.mtime_ns, st.st_mtime_ns),
        "flaw": (entry.flaw, Flaw.NONE),
        "xattrs": (
            dict(entry.xattrs),
            {os.fsencode(n): os.getxattr(path, n, follow_symlinks=False) for n in names},
        ),
        "target": (entry.target, os.readlink(path) if stat.S_ISLNK(st.st_mode) else b""),
        "inode": (entry.inode, st.st_ino),
        "device": (entry.device, st.st_rdev if is_device else 0),
        "links": (entry.links, 1 if stat.S_ISDIR(st.st_mode) else st.st_nlink),
        "size": (entry.size, st.st_size if stat.S_ISREG(st.st_mode) else 0),
    }
    yield from (what for what, (stored, found) in pairs.items() if stored != found)
    if is_file and content(reader, entry) != Path(os.fsdecode(path)).read_bytes():
        yield "content"
