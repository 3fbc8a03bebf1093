"""What objects are called (docs/format.md 1).  Names are numbers and hashes: they tell nothing."""

import re

from agent.model.ids import HostId, IndexId, PackId, SlotId, VaultId

REPOSITORY = "repository"
VAULTS = "vaults/"
PACKS = "packs/"
PARITY = "parity/"
REPAIR = "repair/"
QUARANTINE = "damaged/"

_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_INDEX = re.compile(r"index/[0-9a-f]{32}/([0-9a-f]{64})")
_SNAPSHOT = re.compile(r"snapshots/[0-9a-f]{32}/([0-9a-f]{32})/([0-9a-f]{16})")
_REMOVAL = re.compile(r"vaults/[0-9a-f]{32}/removals/([0-9a-f]{16})")
_PACK_RECORD = re.compile(r"vaults/[0-9a-f]{32}/condemned/([0-9a-f]{16})")
_PACK_PARITY = re.compile(r"parity/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_RECORD = re.compile(r"vaults/[0-9a-f]{32}/(?!slots|writers)[a-z]+/[0-9a-f]{16}(?:[0-9a-f]{16})?")
_WRITER = re.compile(r"vaults/[0-9a-f]{32}/writers/[0-9a-f]{32}")
_HOLD = re.compile(r"vaults/[0-9a-f]{32}/(?:holds|releases)/([0-9a-f]{32})")
_OF_VAULT = re.compile(r"vaults/([0-9a-f]{32})/slots/[0-9a-f]{32}")


def pack(id_: PackId) -> str:
    """Return the name of a pack."""
    text = id_.hex()
    return f"{PACKS}{text[:2]}/{text}"


def pack_id(name: str) -> PackId | None:
    """Return the id in a pack's name, or None for what is not a pack's name."""
    match = _PACK.fullmatch(name)
    return PackId(bytes.fromhex(match.group(2))) if match else None


def parity(id_: PackId) -> str:
    """Return the name of a pack's parity object."""
    text = id_.hex()
    return f"{PARITY}{text[:2]}/{text}"


def parity_of(name: str) -> str | None:
    """Return the name of an object's parity, or None for what has none.

    Indexes have none, for packs tell what is in them; nor have keyslots, for one that was
    destroyed has to be gone.
    """
    pack = pack_id(name)
    if pack is not None:
        return parity(pack)
    is_small = name == REPOSITORY or snapshot_place(name) or is_record(name) or is_writer(name)
    return PARITY + name if is_small else None


def parity_target(name: str) -> str | None:
    """Return the name of the object that a parity object is for, or None for no such name."""
    match = _PACK_PARITY.fullmatch(name)
    target = f"{PACKS}{match.group(1)}/{match.group(2)}" if match else name.removeprefix(PARITY)
    return target if parity_of(target) == name else None


def quarantined(id_: PackId) -> str:
    """Return the name under which a damaged pack is put aside."""
    return QUARANTINE + pack(id_).removeprefix(PACKS)


def is_record(name: str) -> bool:
    """Tell whether this is the name of a record of a vault: removals, holds and their like."""
    return _RECORD.fullmatch(name) is not None


def is_writer(name: str) -> bool:
    """Tell whether this is the name of a writer's enrolment."""
    return _WRITER.fullmatch(name) is not None


def indexes(vault: VaultId) -> str:
    """Return the prefix of a vault's index objects."""
    return f"index/{vault.hex()}/"


def index(vault: VaultId, id_: IndexId) -> str:
    """Return the name of an index object."""
    return indexes(vault) + id_.hex()


def index_id(name: str) -> IndexId | None:
    """Return the id in an index object's name, or None for what is no such name."""
    match = _INDEX.fullmatch(name)
    return IndexId(bytes.fromhex(match.group(1))) if match else None


def snapshots(vault: VaultId) -> str:
    """Return the prefix of a vault's snapshots."""
    return f"snapshots/{vault.hex()}/"


def host_snapshots(vault: VaultId, host: HostId) -> str:
    """Return the prefix of one writer's snapshots of a vault."""
    return f"{snapshots(vault)}{host.hex()}/"


def snapshot(vault: VaultId, host: HostId, sequence: int) -> str:
    """Return the name of one snapshot."""
    return f"{host_snapshots(vault, host)}{sequence:016x}"


def snapshot_place(name: str) -> tuple[HostId, int] | None:
    """Return host and sequence in a snapshot's name, or None for what is no such name."""
    match = _SNAPSHOT.fullmatch(name)
    return (HostId(bytes.fromhex(match.group(1))), int(match.group(2), 16)) if match else None


def slots(vault: VaultId) -> str:
    """Return the prefix of a vault's keyslots."""
    return f"{VAULTS}{vault.hex()}/slots/"


def slot(vault: VaultId, id_: SlotId) -> str:
    """Return the name of a keyslot."""
    return slots(vault) + id_.hex()


def slot_vault(name: str) -> VaultId | None:
    """Return the vault in a keyslot's name, or None for what is no such name."""
    match = _OF_VAULT.fullmatch(name)
    return VaultId(bytes.fromhex(match.group(1))) if match else None


def removals(vault: VaultId) -> str:
    """Return the prefix of a vault's removal records."""
    return f"{VAULTS}{vault.hex()}/removals/"


def removal(vault: VaultId, number: int) -> str:
    """Return the name of one removal record."""
    return f"{removals(vault)}{number:016x}"


def removal_number(name: str) -> int | None:
    """Return the number in a removal record's name, or None for what is no such name."""
    match = _REMOVAL.fullmatch(name)
    return int(match.group(1), 16) if match else None


def holds(vault: VaultId) -> str:
    """Return the prefix of a vault's holds."""
    return f"{VAULTS}{vault.hex()}/holds/"


def hold(vault: VaultId, name: bytes) -> str:
    """Return the name of one hold."""
    return holds(vault) + name.hex()


def releases(vault: VaultId) -> str:
    """Return the prefix of the releases of a vault's holds."""
    return f"{VAULTS}{vault.hex()}/releases/"


def release(vault: VaultId, name: bytes) -> str:
    """Return the name of the release of one hold."""
    return releases(vault) + name.hex()


def hold_name(name: str) -> bytes | None:
    """Return the name in a hold's or release's name, or None for what is no such name."""
    match = _HOLD.fullmatch(name)
    return bytes.fromhex(match.group(1)) if match else None


def pack_records(vault: VaultId) -> str:
    """Return the prefix of a vault's records of packs on their way out."""
    return f"{VAULTS}{vault.hex()}/condemned/"


def pack_record(vault: VaultId, number: int) -> str:
    """Return the name of one record of packs on their way out."""
    return f"{pack_records(vault)}{number:016x}"


def pack_record_number(name: str) -> int | None:
    """Return the number in such a record's name, or None for what is no such name."""
    match = _PACK_RECORD.fullmatch(name)
    return int(match.group(1), 16) if match else None


def writers(vault: VaultId) -> str:
    """Return the prefix of a vault's enrolled writers."""
    return f"{VAULTS}{vault.hex()}/writers/"


def writer(vault: VaultId, host: HostId) -> str:
    """Return the name of one writer's enrolment."""
    return writers(vault) + host.hex()
