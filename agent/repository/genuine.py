"""Whether bytes are the object of that name, before anybody puts them there.

Without keys: packs and indexes by the hash in their name, snapshots by their writer's signature,
keyslots, enrolments and parity by what they say and hash themselves.  Records are signed by the
vault's authority, whose key only its reader has; without it their form is all that can be told.
"""

from collections.abc import Callable, Mapping

from agent.crypto.naming import object_name
from agent.crypto.secrets import ReaderKeys
from agent.crypto.signing import VerifyKey
from agent.errors import ObjectDamaged, RepositoryError
from agent.model.ids import HostId, VaultId
from agent.repository import condemned, holds, layout, removals, signedbox, vaults
from agent.repository.chain import check_signature
from agent.repository.parityobjects import check_parity
from agent.store.base import Store
from agent.store.memory import MemoryStore

Buffer = bytes | bytearray
_NUMBER_BYTES = 8
_FORMS = {
    "removals": removals.FORM,
    "condemned": condemned.FORM,
    "holds": holds.HOLD,
    "releases": holds.RELEASE,
}


class Genuine:
    """Checks bytes against the name they are to go by.  Thread-safe."""

    def __init__(self, store: Store, keys: Mapping[VaultId, ReaderKeys] | None = None) -> None:
        """Take the store whose enrolments say who writes, and the keys that are at hand."""
        self._store = store
        self._keys = keys or {}

    def check(self, name: str, data: Buffer) -> None:
        """Raise ObjectDamaged, or RepositoryTooNew, unless `data` may stand as `name`."""
        hashed = layout.pack_id(name) or layout.index_id(name)
        if hashed is not None:
            if object_name(data) != hashed:
                raise ObjectDamaged(f"{name} is damaged: its bytes do not match its name")
        elif layout.snapshot_place(name) is not None:
            self._snapshot(name, bytes(data))
        elif layout.is_record(name):
            self._record(name, bytes(data))
        else:
            _alone(name, bytes(data))
            if layout.is_writer(name):
                self._enrolment(name, bytes(data))

    def passes(self, name: str, data: Buffer) -> bool:
        """Tell whether `check` raises nothing."""
        try:
            self.check(name, data)
        except RepositoryError:
            return False
        return True

    def _snapshot(self, name: str, data: bytes) -> None:
        place = layout.snapshot_place(name)
        assert place is not None  # noqa: S101 - which the caller has seen
        host, sequence = place
        vault = VaultId(bytes.fromhex(name.split("/")[1]))
        check_signature(data, self._writer(vault, host), vault, host, sequence)

    def _writer(self, vault: VaultId, host: HostId) -> VerifyKey:
        enrolment = vaults.read_enrolment(self._store, layout.writer(vault, host))
        keys = self._keys.get(vault)
        if keys is not None:
            vaults.check_enrolment(enrolment, keys.authority_key())
        return VerifyKey(enrolment.public)

    def _enrolment(self, name: str, data: bytes) -> None:
        keys = self._keys.get(VaultId(bytes.fromhex(name.split("/")[1])))
        if keys is not None:
            enrolment = vaults.read_enrolment(_holding(name, data), name)
            vaults.check_enrolment(enrolment, keys.authority_key())

    def _record(self, name: str, data: bytes) -> None:
        signedbox.check_form(data, name)
        _, vault_hex, room, last = name.split("/")
        vault = VaultId(bytes.fromhex(vault_hex))
        form, keys = _FORMS.get(room), self._keys.get(vault)
        if form is not None and keys is not None:
            is_numbered = len(last) == 2 * _NUMBER_BYTES  # else it has a random name
            within = bytes.fromhex(last)[:: -1 if is_numbered else 1]  # numbers: little-endian
            signedbox.check_signature(form, vault + within, data, keys.authority_key(), name)


def _alone(name: str, data: bytes) -> None:
    """Check what can be told of an object by itself."""
    store = _holding(name, data)
    checks: tuple[tuple[bool, Callable[[], object]], ...] = (
        (name == layout.REPOSITORY, lambda: vaults.open_repository(store)),
        (layout.slot_vault(name) is not None, lambda: vaults.read_slot(store, name)),
        (layout.is_writer(name), lambda: vaults.read_enrolment(store, name)),
        (
            layout.parity_target(name) is not None,
            lambda: check_parity(store, name, len(data), read_data=True),
        ),
    )
    for applies, check in checks:
        if applies:
            check()
            return
    raise ObjectDamaged(f"{name} is no object of ours")


def _holding(name: str, data: bytes) -> MemoryStore:
    """Return a store with this object alone: the readers of objects read from stores."""
    store = MemoryStore()
    store.put(name, [data])
    return store
