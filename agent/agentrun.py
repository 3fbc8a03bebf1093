"""The agent at work, as a daemon or once: its state, repository and vaults; wiring, nothing else.

Loads nothing that only a daemon needs: a single run is over in a third of a second.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from agent.audit.chain import AuditChain
from agent.audit.records import Event, Outcome
from agent.backup.alert import AlertCommand, alert
from agent.backup.once import run_once
from agent.backup.patterns import Patterns, own_paths
from agent.backup.request import Counts, Request
from agent.backup.signs import DAY_NS, Limits
from agent.backup.sources import Source
from agent.backup.state import ACTOR, AgentState
from agent.backup.steps import Steps
from agent.backup.told import snapshot_taken
from agent.clock import SystemClock
from agent.config import AgentConfig, AgentVaultConfig, SignsConfig
from agent.control.agent_messages import SnapshotsTaken, TakeSnapshot
from agent.crypto.keyfiles import load_keys
from agent.crypto.secrets import WriterKeys
from agent.errors import AuditUnavailable, ConfigInvalid, NotFound, VitrineError
from agent.model.snapshot import SnapshotInfo, Trigger
from agent.repository.signs import began
from agent.repository.vaults import open_repository
from agent.store.local import LocalStore

# A thread that comes back from compressing waits for the interpreter at most so long while another
# one is between two small files; 5 ms by default
_SWITCH_INTERVAL_S = 0.0005

log = logging.getLogger(__name__)


def snapshot_once(
    config: AgentConfig, request: TakeSnapshot, on_progress: Callable[[Counts], None]
) -> SnapshotsTaken:
    """Take snapshots without a daemon; raise ConfigInvalid where one runs on the same state."""
    with ExitStack() as stack:
        agent = Agent(config, stack)
        taken = []
        for vault in agent.chosen(request.vault):
            steps, _ = agent.open(vault)
            stack.callback(steps.close)
            asked = Request(Trigger.REQUEST, full=True, reread=request.reread)
            outcome = run_once(steps, agent.clock, asked, on_progress)
            taken.append(snapshot_taken(vault.name, outcome))
        return SnapshotsTaken(tuple(taken))


class Agent:
    """What daemon and single run have in common: the state, the repository, the vaults."""

    def __init__(self, config: AgentConfig, stack: ExitStack) -> None:
        """Open it all; `stack` closes it."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._config = config
        self.clock = SystemClock()
        self._state = AgentState(Path(config.state_dir), self.clock)
        stack.callback(self._state.close)
        self._store = LocalStore(Path(config.repository))
        stack.callback(self._store.close)
        open_repository(self._store)
        self.audit: AuditChain = self._state.open_audit()
        stack.callback(self.audit.close)

    def chosen(self, name: str) -> list[AgentVaultConfig]:
        """Return all vaults, or the one called `name`."""
        chosen = [vault for vault in self._config.vault if name in {"", vault.name}]
        if not chosen:
            raise NotFound(f"this agent backs up no vault {name!r}", hint="see `vitrine status`")
        return chosen

    def open(self, vault: AgentVaultConfig) -> tuple[Steps, list[Source]]:
        """Return the steps of a vault's runs, and its sources."""
        keys = load_keys(Path(vault.keys), WriterKeys)
        sources = _sources(vault, (self._config.repository, self._config.state_dir))
        state = self._state.vault(keys.vault)
        record = partial(self._record, vault.name)
        limits = _limits(self._config.signs)
        steps = Steps(self._store, keys, sources, state, self.clock, record, limits)
        return steps, sources

    def record_failure(self, vault: str, error: VitrineError) -> None:
        """Note a failed run; where the audit cannot be written either, the log has to do."""
        try:
            self.audit.append(
                Event.SNAPSHOT_FAILED,
                Outcome.FAILED,
                actor=ACTOR,
                target=vault,
                details={"error": type(error).__name__},
            )
        except AuditUnavailable as unavailable:
            log.error("the failure is not on record: %s", unavailable.message)

    def _record(self, vault: str, info: SnapshotInfo) -> None:
        snapshot = info.snapshot
        command = AlertCommand(self._config.alert_command, self._config.alert_timeout_seconds)
        alert(vault, info, command)  # first: it must not wait for a full disk to be cleared
        self.audit.append(
            Event.SNAPSHOT_TAKEN,
            Outcome.SUCCESS,
            actor=ACTOR,
            target=vault,
            details={
                "snapshot": info.id.hex(),
                "sequence": snapshot.sequence,
                "trigger": snapshot.trigger.value,
                "files": snapshot.files,
                "bytes": snapshot.bytes,
                "added_bytes": snapshot.added_bytes,
                "incomplete_sources": len(snapshot.incomplete),
            },
        )
        if snapshot.signs:
            self.audit.append(
                Event.SIGNS_SEEN,
                Outcome.SUCCESS,
                actor=ACTOR,
                target=vault,
                details={
                    "snapshot": info.id.hex(),
                    "began": began(snapshot),
                    **{sign.kind: f"{sign.count} of {sign.of}" for sign in snapshot.signs},
                },
            )


def _limits(config: SignsConfig) -> Limits:
    return Limits(
        config.lost_dicom,
        config.broken_dicom,
        config.suffix_burst,
        config.share,
        config.files,
        config.studies,
        int(config.at_rest_days * DAY_NS),
        int(config.window_seconds * 10**9),
    )


def _sources(vault: AgentVaultConfig, ours: tuple[str, ...]) -> list[Source]:
    """Return the sources with labels that differ; our own directories are left out of them."""
    labels: set[str] = set()
    sources = []
    for one in vault.source:
        label = one.label or Path(one.path).name or "root"
        if label in labels or "/" in label or label in {".", ".."}:
            raise ConfigInvalid(
                f"vault {vault.name}: the label {label!r} is taken, or is no name",
                hint="give each source of a vault a `label` of its own",
            )
        labels.add(label)
        path = os.fsencode(one.path.rstrip("/") or "/")
        if not path.startswith(b"/"):
            raise ConfigInvalid(f"vault {vault.name}: a source's path is not absolute")
        own = own_paths(path, map(os.fsencode, ours))
        if own:
            log.warning("vault %s: a source holds Vitrine's own files: left out", vault.name)
        sources.append(Source(path, os.fsencode(label), Patterns(one.include, one.exclude, own)))
    return sources
