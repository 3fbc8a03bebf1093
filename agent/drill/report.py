"""What a drill came to, as a value: signed, so that nobody can make a failed one pass later.

Counts, sizes and times only: a report may leave the house.  The signature is Ed25519 by the key
that also signs the audit of maintenance, over the JSON of the report with an empty signature.
"""

import msgspec

from agent.crypto.signing import SigningKey, VerifyKey
from agent.drill.hashes import Compared
from agent.drill.inspect import Inspected
from agent.errors import ObjectDamaged
from agent.model.decoding import UNDECODABLE

_PURPOSE = b"vitrine drill report 1"


class Restored(msgspec.Struct, frozen=True):
    """One restore of a drill."""

    files: int
    bytes: int
    failed: int
    seconds: float
    compared: Compared

    @property
    def lost(self) -> int:
        """How many files did not come back."""
        return max(self.failed, self.compared.missing)  # what failed is missing, too

    @property
    def passed(self) -> bool:
        """Tell whether every file came back, and as it was."""
        return not (self.lost or self.compared.different)


class HostDrill(msgspec.Struct, frozen=True):
    """What was done with the newest snapshot of one host."""

    host: str
    snapshot: str
    taken_ns: int
    incomplete: int  # files and sources that were not whole when they were backed up
    files: int
    bytes: int
    first_byte_seconds: float  # from opening the keyslot to the first content
    sample: Restored | None = None
    whole: Restored | None = None
    why_not_whole: str = ""
    inspected: Inspected | None = None
    problem: str = ""  # what ended this host's drill early

    @property
    def passed(self) -> bool:
        """Tell whether a recovery in earnest would have worked."""
        restored = [one for one in (self.sample, self.whole) if one is not None]
        looked = self.inspected
        sound = looked is None or (
            not (looked.databases_failed or looked.images_failed or looked.problem)
            and looked.pacs.passed
        )
        return bool(restored) and all(one.passed for one in restored) and sound and not self.problem


class DrillReport(msgspec.Struct, frozen=True):
    """One drill of one vault."""

    vault: str
    started_ns: int
    seconds: float
    recovery_point_seconds: float  # the oldest of the hosts' newest snapshots, when it began
    recovery_time_seconds: float  # of everything: measured, or reckoned from the sample
    is_measured: bool
    hosts: tuple[HostDrill, ...]
    version: int = 1
    signer: str = ""  # public key
    signature: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether every host's drill passed."""
        return bool(self.hosts) and all(host.passed for host in self.hosts)

    def signed(self, signer: SigningKey) -> "DrillReport":
        """Return the report with its signature."""
        named = msgspec.structs.replace(self, signer=signer.verify_key().raw.hex(), signature="")
        signature = signer.sign(_PURPOSE, msgspec.json.encode(named))
        return msgspec.structs.replace(named, signature=signature.hex())

    def encode(self) -> bytes:
        """Return the JSON that `verified` takes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def verified(data: bytes, key: VerifyKey) -> DrillReport:
    """Return the report in `data`; raise ObjectDamaged unless `key`'s holder signed just that."""
    try:
        report = msgspec.json.decode(data, type=DrillReport)
        signature = bytes.fromhex(report.signature)
    except (*UNDECODABLE, ValueError) as error:
        raise ObjectDamaged("this is no report of a drill") from error
    unsigned = msgspec.structs.replace(report, signature="")
    if not key.verifies(signature, _PURPOSE, msgspec.json.encode(unsigned)):
        raise ObjectDamaged("the report was changed after the drill, or another key signed it")
    return report
