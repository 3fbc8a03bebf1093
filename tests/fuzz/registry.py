"""All fuzz targets.  A new decoder gets a target in one of these modules, and is then run in CI.

tests/fuzz/test_fuzz.py looks for modules that decode bytes and are in neither of these lists.
"""

from typing import Final

from tests.fuzz import imaging, local, packs, parity, records, secret, signed, trees
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    each.name: each
    for module in (imaging, packs, parity, signed, trees, secret, records, local)
    for each in module.TARGETS
}

NOT_FUZZED: Final[dict[str, str]] = {
    "agent.backup.canaries": "reads its own note in its own state directory, and its own journal",
    "agent.backup.previous": "reads a fact that this process wrote into its own journal",
    "agent.backup.vigil": "reads facts that this process wrote into its own journal",
    "agent.cli.audit": "reads what the gate answered, which it has decoded itself",
    "agent.cli.demo_hospital": "reads what our own command line printed",
    "agent.cli.people": "reads what its own child process answered",
    "agent.drill.pacs": "reads what a server that it started answers, in a process without keys",
    "agent.drill.rehearse": "reads what its own child process answered",
    "agent.gate.oversight": "reads a record of a chain that the gate itself writes",
    "agent.maintenance.elapsed": "reads what an earlier run noted in its own state directory",
    "agent.maintenance.rotationstate": "reads its own note in its own state directory",
    "agent.restore.parcel": "reads what the process that it forked, or was forked by, wrote",
    "agent.maintenance.retention.freeze": "reads its own note in its own state directory",
    "agent.maintenance.retention.notes": "reads its own notes in its own state directory",
    "agent.maintenance.retention.received": "reads its own note in its own state directory",
    "agent.restored": "reads snapshots that the gate verified, from the gate's own socket pair",
    "fsdriver.session": "reads snapshots that the gate verified, from the gate's own socket pair",
}
"""Modules that decode, and why nothing hostile reaches them."""


def fails(data: bytes) -> None:
    """Fail on what is longer than a byte."""
    assert len(data) < 2


BROKEN: Final = Target("broken", ("tests.fuzz.registry:fails",), fails)
"""No decoder: it fails on purpose, to show that a finding is noticed."""


def target(name: str) -> Target:
    """Return the target of that name."""
    return BROKEN if name == BROKEN.name else TARGETS[name]
