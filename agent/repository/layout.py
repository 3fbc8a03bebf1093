"""What objects are called (docs/format.md 1).  Names are numbers and hashes: they tell nothing."""

import re

from agent.model.ids import HostId, IndexId, PackId, SlotId, VaultId

REPOSITORY = "repository"
VAULTS = "vaults/"
PACKS = "packs/"

_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")


def pack(id_: PackId) -> str:
    """Return the name of a pack."""
    text = id_.hex()
    return f"{PACKS}{text[:2]}/{text}"


def pack_id(name: str) -> PackId | None:
    """Return the id in a pack's name, or None for what is not a pack's name."""
    match = _PACK.fullmatch(name)
    return PackId(bytes.fromhex(match.group(2))) if match else None


def indexes(vault: VaultId) -> str:
    """Return the prefix of a vault's index objects."""
    return f"index/{vault.hex()}/"


def index(vault: VaultId, id_: IndexId) -> str:
    """Return the name of an index object."""
    return indexes(vault) + id_.hex()


def snapshots(vault: VaultId) -> str:
    """Return the prefix of a vault's snapshots."""
    return f"snapshots/{vault.hex()}/"


def host_snapshots(vault: VaultId, host: HostId) -> str:
    """Return the prefix of one writer's snapshots of a vault."""
    return f"{snapshots(vault)}{host.hex()}/"


def snapshot(vault: VaultId, host: HostId, sequence: int) -> str:
    """Return the name of one snapshot."""
    return f"{host_snapshots(vault, host)}{sequence:016x}"


def slots(vault: VaultId) -> str:
    """Return the prefix of a vault's keyslots."""
    return f"{VAULTS}{vault.hex()}/slots/"


def slot(vault: VaultId, id_: SlotId) -> str:
    """Return the name of a keyslot."""
    return slots(vault) + id_.hex()


def writers(vault: VaultId) -> str:
    """Return the prefix of a vault's enrolled writers."""
    return f"{VAULTS}{vault.hex()}/writers/"


def writer(vault: VaultId, host: HostId) -> str:
    """Return the name of one writer's enrolment."""
    return writers(vault) + host.hex()
