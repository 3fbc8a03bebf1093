"""The frozen examples open today as on the day they were made, and by docs/format.md alone.

The second half reads them without a line of ours: struct, msgspec and the published primitives.
"""

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from agent.crypto.keyslots import decode_slot, unwrap_with_credential, unwrap_with_passphrase
from agent.crypto.naming import object_name
from agent.crypto.packkeys import FrameCipher
from agent.encode.codecs import unsqueeze
from agent.model.ids import PackId, SnapshotId, TreeId
from agent.model.location import Codec, FrameLocation
from agent.model.snapshot import Snapshot
from agent.repository.condemned import newest_record
from agent.repository.holds import read_holds
from agent.repository.pack import (
    PREAMBLE_BYTES,
    TRAILER,
    open_frame,
    open_table,
    parse_header,
    parse_trailer,
)
from agent.repository.parity import encode as encode_parity
from agent.repository.parityobjects import check_parity, healed
from agent.repository.removals import read_removals
from agent.repository.vaults import enrolled_writers, open_repository, writer_name
from agent.store.memory import MemoryStore
from tests.fakes.blosc_reader import read_numbers
from tests.fakes.vaults import content, open_reader, snapshots
from tests.vectors.generate import (
    CHUNKS,
    CREDENTIAL,
    HERE,
    HOST_KEY,
    PASSPHRASE,
    PICTURE,
    SECRETS,
    TIME_NS,
)

FILES = (
    "repository",
    "keyslot-credential",
    "keyslot-passphrase",
    "enrolment",
    "pack-data",
    "pack-numbers",
    "pack-tree",
    "index",
    "snapshot",
    "parity",
)

GOVERNING = ("removal", "pack-record", "hold", "release")  # of a repository of their own


class Vector(NamedTuple):
    """One frozen object."""

    name: str
    data: bytes
    holds: dict[str, Any]


def _load(file: str) -> Vector:
    holds = json.loads((HERE / f"{file}.json").read_text())
    return Vector(holds["name"], base64.b64decode(holds["object"]), holds)


def _repository() -> MemoryStore:
    store = MemoryStore()
    for vector in map(_load, FILES):
        store.put(vector.name, [vector.data])
    return store


def test_every_kind_of_object_has_a_vector_that_is_small() -> None:
    """The files are meant to be read, and printed."""
    found = sorted(HERE.glob("*.json"))
    assert sorted(path.stem for path in found) == sorted((*FILES, *GOVERNING))
    assert all(path.stat().st_size < 8192 for path in found)


def test_the_frozen_keyslots_open() -> None:
    """By credential and by passphrase, to the same secrets."""
    slot = decode_slot(_load("keyslot-credential").data)
    assert unwrap_with_credential(slot, CREDENTIAL) == SECRETS
    slot = decode_slot(_load("keyslot-passphrase").data)
    assert unwrap_with_passphrase(slot, PASSPHRASE) == SECRETS


def test_the_frozen_repository_reads_back_whole(tmp_path: Path) -> None:
    """From the snapshot down to each byte."""
    store = _repository()
    info = open_repository(store)
    assert (info.id, info.created_ns) == (_load("repository").holds["id"], TIME_NS)
    (snapshot,) = (found.snapshot for found in snapshots(store, SECRETS))
    expected = json.dumps(_load("snapshot").holds["snapshot"])
    assert snapshot == msgspec.json.decode(expected, type=Snapshot)
    reader = open_reader(store, SECRETS, tmp_path)
    (source,) = reader.entries(snapshot.root)
    record, link = reader.entries(TreeId(source.tree))
    assert (source.name, source.origin) == (b"images", b"/srv/images")
    assert content(reader, record) == b"a record"
    assert record.xattrs == ((b"user.origin", b"pacs"),)
    assert link.target == record.name
    for chunk in CHUNKS:
        assert bytes(reader.chunk(SECRETS.reader().ids().chunk_id(chunk))) == chunk


def test_the_frozen_enrolment_is_the_authoritys() -> None:
    """With the host's name under the index key."""
    store = _repository()
    reader = SECRETS.reader()
    (host,) = enrolled_writers(store, SECRETS.vault, reader.authority_key())
    assert writer_name(store, SECRETS.vault, host, reader.index()) == "pacs1"


def test_the_frozen_parity_brings_its_object_back() -> None:
    """Though nothing is left of it; and it is of the form that is written today."""
    store, snapshot, parity = _repository(), _load("snapshot"), _load("parity")
    assert parity.holds["of"] == snapshot.name
    check_parity(store, parity.name, len(parity.data), read_data=True)
    store.delete(snapshot.name)
    assert healed(store, snapshot.name) == bytearray(snapshot.data)
    assert b"".join(encode_parity(snapshot.data, object_name(snapshot.data))) == parity.data


# -- by docs/format.md alone ----------------------------------------------------------------------

GCM_TAG = 16


def _derive(context: str, key: bytes) -> bytes:
    return blake3(key, derive_key_context=context).digest()


def _box(key: bytes, box: bytes, context: bytes) -> bytes:
    """Open a box: docs/format.md 2."""
    own = blake3(box[:32], key=key).digest()
    return AESGCM(own).decrypt(bytes(12), box[32:], context)


def _unseal(header: bytes, sealed: bytes) -> bytes:
    """Unseal a pack's key: docs/format.md 4, RFC 9180."""
    seed = SECRETS.epochs[1]
    private = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    return suite.decrypt(sealed, private, info=header)


CODECS: dict[int, Callable[[bytes, int], bytes]] = {
    0: lambda squeezed, _: squeezed,
    1: lambda squeezed, _: zstandard.decompress(squeezed),
    2: read_numbers,
}


def _open_pack(data: bytes, kind: int) -> dict[str, str]:
    """Return the chunks of a pack, ids and contents in hexadecimal: docs/format.md 4."""
    header = data[:36]
    magic, version, suite, found, _, vault, epoch, length = struct.unpack("<8sBBBB16sII", header)
    assert (magic, version, suite, found, epoch) == (b"VITRPACK", 1, 1, kind, 1)
    assert (vault, length) == (SECRETS.vault, 1168)
    digest = blake3(data[: 36 + length]).digest()
    key = AESGCM(_unseal(header, data[36 : 36 + length]))
    at, size, end = struct.unpack("<II8s", data[-16:])
    assert end == b"VITREND1"
    assert at + size + 16 == len(data)
    context = b"vitrine pack table\0" + digest
    table = _box(SECRETS.index_key, data[at : at + size], context)
    frames, chunks = struct.unpack_from("<II", table)
    plains: list[bytes] = []
    for number in range(frames):
        offset, stored, plain, codec = struct.unpack_from("<IIIB3x", table, 8 + 16 * number)
        bound = digest + struct.pack("<IBI", number, codec, plain)
        nonce = number.to_bytes(12, "big")
        squeezed = key.decrypt(nonce, data[offset : offset + stored], bound)
        plains.append(CODECS[codec](squeezed, plain))
        assert len(plains[-1]) == plain
    found_chunks: dict[str, str] = {}
    for number in range(chunks):
        row = struct.unpack_from("<32sIII", table, 8 + 16 * frames + 44 * number)
        found_chunks[row[0].hex()] = plains[row[1]][row[2] : row[2] + row[3]].hex()
    return found_chunks


@pytest.mark.parametrize(
    ("file", "kind", "context"),
    [
        ("pack-data", 1, "vitrine 2026-11 chunk names"),
        ("pack-tree", 2, "vitrine 2026-11 tree names"),
    ],
)
def test_a_pack_opens_by_its_description(file: str, kind: int, context: str) -> None:
    """Header, key, table, frames, chunks, and the name of each."""
    vector = _load(file)
    name = blake3(vector.data).hexdigest()
    assert vector.name == f"packs/{name[:2]}/{name}"
    chunks = _open_pack(vector.data, kind)
    assert chunks == vector.holds["chunks"]
    for id_, chunk in chunks.items():
        assert blake3(bytes.fromhex(chunk), key=_derive(context, SECRETS.id_key)).hexdigest() == id_


def test_a_pack_of_numbers_opens_by_its_description_and_by_code() -> None:
    """Codec 2, with a block of each kind and a last byte that fills no sample."""
    vector = _load("pack-numbers")
    name = blake3(vector.data).hexdigest()
    assert vector.name == f"packs/{name[:2]}/{name}"
    ids = SECRETS.reader().ids()
    expected = {ids.chunk_id(PICTURE).hex(): PICTURE.hex()}
    assert _open_pack(vector.data, 1) == expected
    header = parse_header(vector.data[:PREAMBLE_BYTES], "a pack")
    at, size = parse_trailer(vector.data[-TRAILER.size :], len(vector.data), "a pack")
    box = vector.data[at : at + size]
    ((row,), _) = open_table(box, header, SECRETS.reader().index(), "a pack")
    assert row.codec == Codec.BLOSC2
    cipher = FrameCipher(_unseal(header.context, header.sealed_key))
    where = FrameLocation(PackId(bytes.fromhex(name)), 0, *row)
    squeezed = open_frame(cipher, header, where, vector.data[row.offset :][: row.stored])
    assert unsqueeze(row.codec, squeezed, row.plain) == PICTURE


def test_an_index_opens_by_its_description() -> None:
    """Fixed-width records, sorted by id."""
    vector = _load("index")
    assert vector.name == f"index/{SECRETS.vault.hex()}/{blake3(vector.data).hexdigest()}"
    plain = _box(SECRETS.index_key, vector.data, b"vitrine index\0")
    magic, version, packs, frames, gone, chunks = struct.unpack_from("<8sIIIIQ", plain)
    assert (magic, version, packs, gone) == (b"VITRINDX", 1, 2, 0)
    rows = [struct.unpack_from("<32sIB3xQ", plain, 32 + 48 * n) for n in range(packs)]
    assert [row[2] for row in rows] == [1, 2]
    at = 32 + 48 * packs + 16 * frames + 32 * gone
    found: dict[str, list[Any]] = {}
    ids: list[bytes] = []
    for number in range(chunks):
        id_, pack, frame, offset, length = struct.unpack_from("<32sIIII", plain, at + 48 * number)
        ids.append(id_)
        found[id_.hex()] = [rows[pack][0].hex(), frame, offset, length]
    assert ids == sorted(ids)
    assert found == vector.holds["where"]
    assert at + 48 * chunks == len(plain)


def test_a_snapshot_opens_by_its_description() -> None:
    """Signature over purpose, place and body; box bound to the place."""
    vector = _load("snapshot")
    data, signature = vector.data[:-64], vector.data[-64:]
    magic, version, suite, length = struct.unpack_from("<8sBBxxI", data)
    assert (magic, version, suite, length) == (b"VITRSNAP", 1, 1, len(data) - 16)
    public = Ed25519PrivateKey.from_private_bytes(HOST_KEY).public_key()
    host = blake3(public.public_bytes_raw()).digest()[:16]
    assert vector.name == f"snapshots/{SECRETS.vault.hex()}/{host.hex()}/{1:016x}"
    purpose = b"vitrine snapshot 1"
    place = SECRETS.vault + host + struct.pack("<Q", 1)
    public.verify(signature, struct.pack("<I", len(purpose)) + purpose + place + data)
    body = msgspec.msgpack.decode(_box(SECRETS.index_key, data[16:], purpose + place))
    assert (body["sequence"], body["previous"], body["files"]) == (1, bytes(32), 2)
    assert body["root"].hex() in _open_pack(_load("pack-tree").data, 2)


@pytest.mark.parametrize(
    ("file", "magic", "purpose", "fields"),
    [
        ("removal", b"VITRGONE", b"vitrine removal 1", {"number": 1, "previous": bytes(32)}),
        ("pack-record", b"VITRCOND", b"vitrine condemned 1", {"number": 3, "condemning": 2}),
        ("hold", b"VITRHOLD", b"vitrine hold 1", {"reason": "a lawsuit", "until_ns": 0}),
        ("release", b"VITRFREE", b"vitrine release 1", {"reason": "settled", "by": "officer"}),
    ],
)
def test_what_the_authority_signs_opens_by_its_description(
    file: str, magic: bytes, purpose: bytes, fields: dict[str, object]
) -> None:
    """The form of a snapshot, another magic, purpose and place, and the authority's signature."""
    vector = _load(file)
    data, signature = vector.data[:-64], vector.data[-64:]
    assert struct.unpack_from("<8sBBxxI", data) == (magic, 1, 1, len(data) - 16)
    last = vector.name.rsplit("/", 1)[1]
    place: bytes = SECRETS.vault
    place += bytes.fromhex(last) if len(last) == 32 else struct.pack("<Q", int(last, 16))
    public = Ed25519PrivateKey.from_private_bytes(SECRETS.authority).public_key()
    public.verify(signature, struct.pack("<I", len(purpose)) + purpose + place + data)
    body = msgspec.msgpack.decode(_box(SECRETS.index_key, data[16:], purpose + place))
    assert body["vault"] == SECRETS.vault
    assert {key: body[key] for key in fields} == fields


def test_what_the_authority_signed_is_read_by_code() -> None:
    """A snapshot that is gone, a pack that is condemned, a hold and its end."""
    store = MemoryStore()
    for file in ("removal", "pack-record", "hold"):
        vector = _load(file)
        store.put(vector.name, [vector.data])
    reader = SECRETS.reader()
    removed = read_removals(store, reader).removed
    (gone,) = removed.values()
    assert gone.id == object_name(_load("snapshot").data)
    record = newest_record(store, reader.vault, reader.index(), reader.authority_key())
    assert record.doomed() == {b"\x77" * 32}
    (hold,) = read_holds(store, reader)
    assert hold.holds(SnapshotId(gone.id), TIME_NS)
    release = _load("release")
    store.put(release.name, [release.data])
    assert not read_holds(store, reader)


def test_a_tree_opens_by_its_description() -> None:
    """Maps of one-letter keys; extents of 40 bytes."""
    pages = [bytes.fromhex(page) for page in _open_pack(_load("pack-tree").data, 2).values()]
    leaf, root = (msgspec.msgpack.decode(page)["e"] for page in pages)
    record, link = leaf
    assert (record["n"], record["m"], record["s"]) == (b"caf\xe9.dcm", 0o640, 8)
    assert (link["k"], link["y"]) == (2, b"caf\xe9.dcm")
    id_, length = struct.unpack("<32sQ", record["c"])
    assert (id_.hex() in _load("pack-data").holds["chunks"], length) == (True, 8)
    assert (root[0]["k"], root[0]["o"]) == (1, b"/srv/images")
    names = _derive("vitrine 2026-11 tree names", SECRETS.id_key)
    assert root[0]["r"] == blake3(pages[0], key=names).digest()


@pytest.mark.parametrize("kind", ["credential", "passphrase"])
def test_a_keyslot_opens_by_its_description(kind: str) -> None:
    """A map and its digest; the map with an empty box is the context."""
    data = _load(f"keyslot-{kind}").data
    assert data[-32:] == blake3(data[:-32]).digest()
    slot = msgspec.msgpack.decode(data[:-32])
    if kind == "credential":
        key = _derive("vitrine 2026-11 keyslot credential", CREDENTIAL)
    else:
        cost = slot["cost"]
        kdf = Argon2id(
            salt=slot["salt"],
            length=32,
            iterations=cost["iterations"],
            lanes=cost["lanes"],
            memory_cost=cost["memory_kib"],
        )
        key = kdf.derive("Bl\u00e5b\u00e6rsyltet\u00f8y 1".encode())
    context = msgspec.msgpack.encode({**slot, "box": b""})
    secrets = msgspec.msgpack.decode(_box(key, slot["box"], context))
    assert secrets["id_key"] == SECRETS.id_key
    assert secrets["epochs"] == {1: bytes(range(96))}


def test_an_enrolment_opens_by_its_description() -> None:
    """Signed by the authority over the map with an empty signature."""
    vector = _load("enrolment")
    enrolment = msgspec.msgpack.decode(vector.data)
    authority = Ed25519PrivateKey.from_private_bytes(SECRETS.authority).public_key()
    purpose = b"vitrine writer 1"
    message = msgspec.msgpack.encode({**enrolment, "signature": b""})
    authority.verify(enrolment["signature"], struct.pack("<I", len(purpose)) + purpose + message)
    host = blake3(enrolment["public"]).digest()[:16]
    assert _box(SECRETS.index_key, enrolment["name"], purpose + host) == b"pacs1"
    assert vector.name.endswith(host.hex())


def test_parity_by_the_format_alone() -> None:
    """A description at each end; an object of one piece has two copies of itself in between."""
    data, whole = _load("parity").data, _load("snapshot").data
    head = struct.pack("<8sBBBBIQ", b"VITRPRTY", 1, 16, 2, 0, 65536, len(whole))
    head += blake3(whole).digest()
    hashes = blake3(whole).digest()[:16] * 3
    check = blake3(head + hashes).digest()
    assert data == head + hashes + check + whole + whole + check + hashes + head
