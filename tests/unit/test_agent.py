"""The agent as it is wired: what it holds, what it refuses, what it says."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from agent.agentrun import snapshot_once
from agent.audit.files import AuditFiles
from agent.backup.state import AgentState
from agent.clock import SystemClock
from agent.config import SourceConfig, save
from agent.control.agent_messages import AskAgentStatus, SnapshotsTaken, TakeSnapshot
from agent.control.client import call
from agent.crypto.naming import derive
from agent.crypto.packkeys import OpeningKey
from agent.errors import (
    AuditBroken,
    ConfigInvalid,
    JournalError,
    NotARepository,
    NotFound,
    VitrineError,
    WrongKey,
)
from agent.repository import layout
from agent.repository.packkeys import OpeningKeys
from agent.repository.packtable import read_header
from tests.fakes.agents import AgentOnDisk
from tests.fakes.vaults import stored_ids

PATIENCE_S = 120
SECRET = b"Mustermann, Erika; born 1964-08-12"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentOnDisk]:
    """Return an agent on the disk whose source holds one file."""
    agent = AgentOnDisk(tmp_path)
    (agent.source / "report").write_bytes(SECRET * 100)
    yield agent
    agent.store.close()


def run(agent: AgentOnDisk, vault: str = "") -> SnapshotsTaken:
    """Take a snapshot without the daemon."""
    return snapshot_once(agent.config, TakeSnapshot(vault), lambda _: None)


def audited(agent: AgentOnDisk) -> list[str]:
    """Return the events on the agent's record."""
    files = AuditFiles.under(agent.scratch / "state" / "audit")
    return [msgspec.json.decode(line)["event"] for line in _lines(files)]


def _lines(files: AuditFiles) -> list[bytes]:
    return files.chain.read_bytes().splitlines()


# -- what it holds ------------------------------------------------------------------------------


def test_nothing_that_the_agent_holds_opens_what_it_stored(agent: AgentOnDisk) -> None:
    """Every 96- and 32-byte stretch of its files is tried as an opening key and as a pack's key.

    Its files are the key bundle, the configuration and the state directory; its process gets
    nothing else.
    """
    run(agent)
    held = [agent.keys.read_bytes(), agent.file.read_bytes()]
    held += [path.read_bytes() for path in (agent.scratch / "state").rglob("*") if path.is_file()]
    for key in msgspec.structs.astuple(agent.vault.writer):
        held.append(key if isinstance(key, bytes) else str(key).encode())
    seeds = agent.vault.secrets.epochs.values()
    for blob in held:
        for seed in seeds:
            assert seed not in blob
            assert seed[:64] not in blob
            assert seed[64:] not in blob
    packs = [layout.pack_id(listed.name) for listed in agent.store.list(layout.PACKS)]
    assert packs
    for pack in packs:
        assert pack is not None
        _, preamble = read_header(agent.store, pack)
        assert OpeningKeys.of(agent.vault.secrets).pack_key(pack, preamble)  # the right key does
        for candidate in _candidates(agent):
            with pytest.raises(VitrineError):
                OpeningKeys(agent.vault.writer.vault, {1: candidate}).pack_key(pack, preamble)


def _candidates(agent: AgentOnDisk) -> Iterator[bytes]:
    """Yield what somebody who owns the agent might try as an opening key's seed."""
    writer = agent.vault.writer
    secrets = [writer.id_key, writer.index_key, writer.signing, writer.seal_key]
    for secret in secrets:
        yield (secret * 96)[:96]
        yield (derive("vitrine 2026-11 chunk names", secret) * 3)[:96]
    yield writer.id_key + writer.index_key + writer.signing
    for at in range(0, len(writer.seal_key) - 96, 96):
        yield writer.seal_key[at : at + 96]


def test_the_writer_bundle_has_no_way_to_open() -> None:
    """An opening key cannot be made of a seal key."""
    seal = OpeningKey.generate().seal_key()
    with pytest.raises(WrongKey):
        OpeningKey(seal.raw)


def test_the_repository_shows_nothing_of_a_source(agent: AgentOnDisk) -> None:
    """Neither content, nor a file's or directory's name, nor a label, is there in the clear."""
    (agent.source / "Erika Mustermann").mkdir()
    (agent.source / "Erika Mustermann" / "report").write_bytes(SECRET)
    run(agent)
    everything = [listed.name.encode() for listed in agent.store.list("")]
    everything += [agent.store.get(listed.name) for listed in agent.store.list("")]
    for secret in (b"Mustermann", b"report", agent.source.name.encode(), b"radiology"):
        assert not any(secret in blob for blob in everything)


def test_journal_keys_and_audit_are_for_the_agent_alone(agent: AgentOnDisk) -> None:
    """Whatever the umask, nobody else can enter the state directory."""
    run(agent)
    state = agent.scratch / "state"
    assert state.stat().st_mode & 0o077 == 0
    journals = list(state.rglob("journal.sqlite"))
    assert journals
    assert all(path.stat().st_mode & 0o077 == 0 for path in [*journals, state / "audit.key"])


# -- without the daemon -------------------------------------------------------------------------


def test_a_snapshot_without_the_daemon_is_taken_told_and_recorded(agent: AgentOnDisk) -> None:
    """The answer has what the command line shows; the record has counts and no names."""
    (taken,) = run(agent).taken
    assert (taken.vault, taken.sequence, taken.files, taken.read_files) == ("radiology", 1, 1, 1)
    assert taken.id == agent.snapshots()[-1].id.hex()
    assert agent.differences() == []
    (again,) = run(agent, "radiology").taken
    assert (again.id, again.sequence, again.read_files) == ("", 1, 0)
    assert audited(agent).count("snapshot-taken") == 1
    chain = AuditFiles.under(agent.scratch / "state" / "audit").chain.read_bytes()
    assert b"source" not in chain.replace(b"incomplete_sources", b"")


def test_an_unknown_vault_is_named(agent: AgentOnDisk) -> None:
    """A wrong name is no reason to back up everything."""
    with pytest.raises(NotFound, match="cardiology"):
        run(agent, "cardiology")


def test_two_agents_do_not_share_a_state(agent: AgentOnDisk) -> None:
    """The second is told so, and changes nothing."""
    state = AgentState(Path(agent.config.state_dir), SystemClock())
    with pytest.raises(ConfigInvalid, match="another agent"):
        run(agent)
    state.close()
    run(agent)


def test_an_audit_that_is_gone_is_not_begun_anew(agent: AgentOnDisk) -> None:
    """A new chain would hide that the old one is lost."""
    run(agent)
    for path in (agent.scratch / "state" / "audit").iterdir():
        path.unlink()
    with pytest.raises(AuditBroken):
        run(agent)


def test_what_is_no_repository_is_refused(agent: AgentOnDisk, tmp_path: Path) -> None:
    """An empty directory, as of a disk that is not mounted, is not filled."""
    (tmp_path / "bare").mkdir()
    config = msgspec.structs.replace(agent.config, repository=str(tmp_path / "bare"))
    with pytest.raises(NotARepository):
        snapshot_once(config, TakeSnapshot(), lambda _: None)
    assert list((tmp_path / "bare").iterdir()) == []


def test_our_own_files_in_a_source_are_left_out(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    """A source that holds repository and state does not back up its own backup."""
    expect_log("Vitrine's own files")
    agent = AgentOnDisk(tmp_path)
    vault = agent.config.vault[0]
    wide = msgspec.structs.replace(vault, source=(SourceConfig(str(tmp_path)),))
    config = msgspec.structs.replace(agent.config, vault=(wide,))
    (agent.source / "a").write_bytes(b"a")
    snapshot_once(config, TakeSnapshot(), lambda _: None)
    (again,) = snapshot_once(config, TakeSnapshot(), lambda _: None).taken
    assert again.id == ""
    agent.store.close()


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ((SourceConfig("/a/x"), SourceConfig("/b/x")), "taken"),
        ((SourceConfig("relative"),), "absolute"),
        ((SourceConfig("/a", label=".."),), "no name"),
    ],
)
def test_sources_that_cannot_stand_side_by_side_are_refused(
    agent: AgentOnDisk, sources: tuple[SourceConfig, ...], complaint: str
) -> None:
    """Labels are names in a snapshot's root; paths are absolute."""
    vault = msgspec.structs.replace(agent.config.vault[0], source=sources)
    config = msgspec.structs.replace(agent.config, vault=(vault,))
    with pytest.raises(ConfigInvalid, match=complaint):
        snapshot_once(config, TakeSnapshot(), lambda _: None)


# -- full disks ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=True)
    yield path
    # lazily: the traceback of an expected error may still hold a mapped index
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(path: Path) -> Path:
    """Fill the file system at `path`; return the file to remove to have space again."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


@pytest.mark.root
def test_a_full_disk_under_the_journal_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    """The run fails by name and with advice; with space again the next one goes on."""
    agent = AgentOnDisk(tmp_path)
    config = msgspec.structs.replace(agent.config, state_dir=str(small_disk / "state"))
    (agent.source / "first").write_bytes(b"1")
    snapshot_once(config, TakeSnapshot(), lambda _: None)
    for number in range(6000):
        name = f"{number:04}-" + "n" * 180
        (agent.source / name).write_bytes(b"%d" % number)
    ballast = fill(small_disk)
    with pytest.raises(VitrineError) as caught:
        snapshot_once(config, TakeSnapshot(), lambda _: None)
    assert caught.value.hint
    assert isinstance(caught.value, JournalError) or "space" in caught.value.hint
    assert len(agent.snapshots()) == 1
    ballast.unlink()
    snapshot_once(config, TakeSnapshot(), lambda _: None)
    assert agent.differences() == []
    ids = stored_ids(agent.store, agent.vault.secrets)
    assert len(ids) == len(set(ids))
    agent.store.close()


# -- the daemon ---------------------------------------------------------------------------------


def test_the_daemon_answers_snapshots_and_status_and_ends_cleanly_on_a_signal(
    agent: AgentOnDisk,
) -> None:
    """SIGTERM: exit status 0, the socket served until then, start and end on record."""
    process = agent.start()
    try:
        _until_listening(agent)
        (taken,) = _asked(agent, TakeSnapshot(full=True)).taken
        assert taken.files == 1
        status = call(agent.config.socket, AskAgentStatus())
        (source,) = status.sources  # type: ignore[attr-defined]
        assert (source.path, source.vault, source.files) == (str(agent.source), "radiology", 1)
        assert source.state not in {"failing", "missing"}
        assert source.last_snapshot_ns > 0
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    events = audited(agent)
    assert {"service-started", "snapshot-taken", "service-stopped"} <= set(events)
    log = (agent.scratch / "agent.log").read_text()
    assert str(agent.source) not in log


def test_a_second_daemon_is_refused(agent: AgentOnDisk) -> None:
    """It exits with the status of a wrong configuration, and the first goes on."""
    first = agent.start()
    try:
        _until_listening(agent)
        save(agent.file, msgspec.structs.replace(agent.config, socket=agent.config.socket + "2"),
             0o600)  # fmt: skip
        second = agent.start()
        assert second.wait(PATIENCE_S) == ConfigInvalid.exit_status
        assert first.poll() is None
    finally:
        first.terminate()
        first.wait(PATIENCE_S)


def _asked(agent: AgentOnDisk, request: TakeSnapshot) -> SnapshotsTaken:
    answer = call(agent.config.socket, request)
    assert isinstance(answer, SnapshotsTaken)
    return answer


def _until_listening(agent: AgentOnDisk) -> None:
    """Wait until the daemon accepts callers."""
    for _ in range(PATIENCE_S * 20):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(agent.config.socket) == 0:
                return
        threading.Event().wait(0.05)
    raise AssertionError((agent.scratch / "agent.log").read_text())
