"""The agent's process and files hold nothing that opens a pack: a test that tries."""

import base64
import binascii
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.crypto.keyfiles import load_keys
from agent.crypto.packkeys import PACK_KEY_BYTES, OpeningKey
from agent.crypto.secrets import WriterKeys
from agent.errors import ObjectDamaged
from agent.model.ids import PackId
from agent.repository import layout
from agent.repository.pack import PREAMBLE_BYTES
from agent.repository.packkeys import OpeningKeys
from tests.e2e.hospital import VAULT, Installation

pytestmark = [pytest.mark.root, pytest.mark.fuse]

MiB = 1024 * 1024
DOCTOR = 65_001


@pytest.fixture
def hospital(place: Path) -> Installation:
    """Return an installation whose source fills several packs."""
    source = place / "pacs"
    source.mkdir()
    for number in range(3):
        (source / f"{number}").write_bytes(os.urandom(9 * MiB))
    installation = Installation(place, source)
    installation.found("it-administrator", "auditor")
    return installation


def test_no_file_of_the_agent_holds_what_opens_a_pack(hospital: Installation) -> None:
    """Its keys, its state and its configuration, raw and as text."""
    with hospital.agent_alone():
        hospital.wait_for_snapshot(1)
    secret = _opening_parts(hospital)
    held = b"\0".join(path.read_bytes() for path in _files_of_the_agent(hospital))
    # the search finds what is there: the key that names, in the key file as base64
    assert _spelled(hospital.secrets().id_key, held)
    assert [part for part in (*secret, *_pack_keys(hospital)) if _spelled(part, held)] == []


def test_the_memory_of_the_agent_holds_no_opening_key(hospital: Installation) -> None:
    """Nor any part of one, right after it sealed packs; a gate with a session does hold it."""
    with hospital.up() as running:
        hospital.wait_for_snapshot(1)
        doctor = hospital.add("doctor", DOCTOR, "doctor")
        hospital.unlock(doctor)
        secret = _opening_parts(hospital)
        agent = _memory(running.pid("agent"))
        assert hospital.secrets().id_key in agent, "the search finds what is there"
        assert [part for part in secret if part in agent] == []
        gate = _memory(running.pid("gate"))
        assert hospital.secrets().epochs[1] in gate, "and finds an opening key where one is"


def test_the_memory_of_the_agent_holds_no_key_of_a_finished_pack(hospital: Installation) -> None:
    """A pack's key is gone with the pack: not wiped late, not left to chance."""
    with hospital.up() as running:
        hospital.wait_for_snapshot(1)
        agent = _memory(running.pid("agent"))
    assert hospital.secrets().id_key in agent, "the search finds what is there"
    assert [key for key in _pack_keys(hospital) if key in agent] == []


def test_no_key_in_the_agents_bundle_unseals_a_pack(hospital: Installation) -> None:
    """Each of its keys, and all of them in a row, tried as the opening key's seed."""
    with hospital.agent_alone():
        hospital.wait_for_snapshot(1)
    keys = load_keys(hospital.config / "agent.keys" / f"{VAULT}.json", WriterKeys)
    material = keys.signing + keys.id_key + keys.index_key + keys.seal_key
    seeds = [material[at : at + 96] for at in range(0, len(material) - 96, 16)]
    seeds += [(part * 3)[:96] for part in (keys.signing, keys.id_key, keys.index_key)]
    for preamble, name in _preambles(hospital):
        for seed in seeds:
            opening = OpeningKeys(keys.vault, {keys.epoch: seed})
            with pytest.raises(ObjectDamaged, match="does not open"):
                opening.pack_key(name, preamble)
    assert OpeningKey(hospital.secrets().epochs[1]).seal_key().raw == keys.seal_key


def _opening_parts(hospital: Installation) -> list[bytes]:
    """Return all that is secret: every epoch's seed, its parts, and the key that enrols."""
    secrets = hospital.secrets()
    parts = [secrets.authority]
    for seed in secrets.epochs.values():
        parts += [seed, seed[:32], seed[32:64], seed[64:]]
    return parts


def _preambles(hospital: Installation) -> Iterator[tuple[bytes, PackId]]:
    store = hospital.store()
    try:
        for listed in store.list(layout.PACKS):
            pack = layout.pack_id(listed.name)
            assert pack is not None
            yield bytes(store.get_range(listed.name, 0, PREAMBLE_BYTES)), pack
    finally:
        store.close()


def _pack_keys(hospital: Installation) -> list[bytes]:
    """Return the key of every pack, unsealed with what the passphrase opens."""
    opening = OpeningKeys.of(hospital.secrets())
    keys = [opening.pack_key(pack, preamble) for preamble, pack in _preambles(hospital)]
    assert keys
    assert all(len(key) == PACK_KEY_BYTES for key in keys)
    return keys


def _files_of_the_agent(hospital: Installation) -> list[Path]:
    places = [hospital.config / "agent.keys", hospital.config / "state" / "agent"]
    found = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(found) > 3
    return [hospital.config / "agent.toml", *found]


def _spelled(secret: bytes, held: bytes) -> bool:
    """Tell whether `held` has the secret raw, in hexadecimal, or in base64 at any alignment."""
    ways = [secret, binascii.hexlify(secret), binascii.hexlify(secret).upper()]
    for lead in range(3):
        text = base64.b64encode(bytes(lead) + secret)
        # the characters that only the secret decides
        ways.append(text[-(-lead * 8 // 6) : (lead + len(secret)) * 8 // 6])
    return any(way in held for way in ways)


def _memory(pid: int) -> bytes:
    """Return what a process has written: every writable private region."""
    regions = []
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            regions.append(_read(memory.fileno(), start, end))
    return b"\0".join(regions)


def _read(memory: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        try:
            part = os.pread(memory, min(end - start, 16 * MiB), start)
        except OSError:  # a guard page, or one that went meanwhile
            break
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)
