"""Fuzz targets of what lies on the services' own disks: configuration, policies, state."""

from collections.abc import Iterator
from datetime import UTC
from functools import cache

import cedarpy
import msgspec
import tomli_w

from agent import config
from agent.backup.journal import ROOT, Journal
from agent.backup.pages import Pages
from agent.backup.patterns import Patterns
from agent.errors import ChainBroken, ConfigInvalid, JournalError
from agent.gate import policytext
from agent.gate.times import Instant, parse_when
from agent.model.tree import Entry
from agent.repository.seen import SeenChains
from tests.fuzz.target import KiB, Target, file_of, scratch
from tests.vectors.generate import SECRETS, TIME_NS

_IDENTITY = b"a vault"


def _config(data: bytes) -> None:
    """Check that a file is refused, or a configuration that is written again as the same."""
    kind, text = data[:1], data[1:]
    if kind == b"a":
        _loads_again(text, config.AgentConfig)
    elif kind == b"g":
        _loads_again(text, config.GateConfig)
    elif kind == b"m":
        _loads_again(text, config.MaintenanceConfig)
    elif kind == b"l":
        _loads_again(text, config.LauncherConfig)
    else:
        _loads_again(text, config.ClientConfig)


def _loads_again(text: bytes, kind: type[config.Config]) -> None:
    with file_of(text) as path:
        found = config.load(path, kind)
    with file_of(tomli_w.dumps(msgspec.to_builtins(found)).encode()) as path:
        assert config.load(path, kind) == found


def _configs() -> Iterator[bytes]:
    source = config.SourceConfig("/srv/images", exclude=("*.tmp",))
    vault = config.AgentVaultConfig("radiology", "/keys", (source,))
    reader = config.GateVaultConfig("radiology", "/keys")
    values: dict[bytes, msgspec.Struct] = {
        b"a": config.AgentConfig("/repository", "/state", "/socket", (vault,), settle_seconds=2.5),
        b"g": config.GateConfig(
            "/repository", "/state", "/socket", "/launcher", "/credential", (reader,)
        ),
        b"l": config.LauncherConfig("/socket", "/run/vitrine", "gate"),
        b"c": config.ClientConfig("/repository"),
    }
    for kind, value in values.items():
        yield kind + tomli_w.dumps(msgspec.to_builtins(value)).encode()


def _patterns(data: bytes) -> None:
    """Check that any patterns decide about any path, or are refused when they are loaded."""
    lines, _, path = data.partition(b"\0")
    text = lines.decode(errors="replace").splitlines()
    half = len(text) // 2
    patterns = Patterns(text[:half], text[half:], [b"own"])
    for is_directory in (False, True):
        patterns.takes(path, is_directory=is_directory)
    patterns.takes_below(path)
    assert not patterns.takes(b"own", is_directory=False)


def _policy(data: bytes) -> None:
    """Check that policies are cut where they end, so that what is checked takes effect."""
    text = data.decode(errors="replace")
    found = [*policytext.statements(policytext.PolicyFile("site.cedar", text))]
    at = 0
    for statement in found:
        at = text.index(statement.text, at) + len(statement.text)
    for statement in found:
        policytext._checked(statement, _schema())


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str((policytext._SHIPPED / "vitrine.cedarschema").read_text("utf-8"))


def _policies() -> Iterator[bytes]:
    (shipped,) = policytext._shipped()
    for statement in policytext.statements(shipped):
        yield statement.text.encode()


def _when(data: bytes) -> None:
    """Check that whatever is typed is a moment that the clock can have, a snapshot, or refused."""
    found = parse_when(data.decode("utf-8", "surrogateescape"), TIME_NS, UTC)
    assert not isinstance(found, Instant) or found.time_ns >= 0


def _seen(data: bytes) -> None:
    """Check that a gate that cannot read what it remembers does not start."""
    with file_of(data) as path:
        SeenChains(path).check(SECRETS.vault, ())


def _journal(data: bytes) -> None:
    """Check that a journal that rots is noticed, or read as far as it is whole."""
    path = scratch() / "journal"
    path.write_bytes(data)
    journal = Journal(str(path), _IDENTITY)
    try:
        root = journal.root()
        for number, source in journal.sources():
            journal.flawed(number)
            journal.directory(number, source)
        for entry in Pages(journal).entries(root.id):
            assert isinstance(entry, Entry)
        Pages(journal).apply(ROOT, [(b"new", Entry(name=b"new"))])
        journal.commit()
    finally:
        journal.close()
        for leftover in scratch().iterdir():
            leftover.unlink()


def _journals() -> Iterator[bytes]:
    path = scratch() / "seed"
    journal = Journal(str(path), _IDENTITY)
    journal.source(b"/srv/images")
    Pages(journal).apply(ROOT, [(b"images", Entry(name=b"images", links=2, inode=7))])
    journal.commit()
    journal.close()
    yield path.read_bytes()
    path.unlink()


TARGETS = (
    Target(
        "config",
        ("agent.config:load",),
        _config,
        errors=(ConfigInvalid,),
        seeds=_configs,
    ),
    Target(
        "patterns",
        ("agent.backup.patterns:Patterns",),
        _patterns,
        errors=(ConfigInvalid,),
        seeds=lambda: [b"*.dcm\n!keep/\n/top/**/x\n[a-z]?\0images/1.dcm"],
        max_bytes=512,
    ),
    Target(
        "policy",
        ("agent.gate.policytext:statements", "agent.gate.policytext:load_policies"),
        _policy,
        errors=(ConfigInvalid,),
        seeds=_policies,
    ),
    Target(
        "when",
        ("agent.gate.times:parse_when",),
        _when,
        errors=(ConfigInvalid,),
        seeds=lambda: [b"yesterday 14:00", b"2026-11-22T14:00:05.5+01:00", b"3 weeks ago", b"9f3c"],
        max_bytes=128,
    ),
    Target(
        "seen",
        ("agent.repository.seen:SeenChains",),
        _seen,
        errors=(ChainBroken, ConfigInvalid),
        seeds=lambda: [msgspec.json.encode({f"{'00' * 16}/{'11' * 16}": [7, "ab" * 32]})],
    ),
    Target(
        "journal",
        ("agent.backup.journal:Journal",),
        _journal,
        errors=(JournalError,),
        seeds=_journals,
        max_bytes=256 * KiB,
    ),
)
