"""The policy in force, and changing it while the gate runs."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from agent.audit.chain import AuditChain
from agent.audit.records import Event, Outcome
from agent.errors import VitrineError
from agent.gate.policy import Policy

log = logging.getLogger(__name__)

OnChange = Callable[[], Awaitable[None]]


class PolicyInForce:
    """Holds one policy; a reload that fails leaves it in force and says so."""

    def __init__(self, policy: Policy, directory: Path | None, audit: AuditChain) -> None:
        """Take the first policy, which counts as loaded now."""
        self._policy = policy
        self._directory = directory
        self._audit = audit
        self._on_change: OnChange | None = None

    def current(self) -> Policy:
        """Return the policy to decide by."""
        return self._policy

    def on_change(self, do: OnChange) -> None:
        """Have this done when the policy has changed: rights may have gone with it."""
        self._on_change = do

    async def reload(self) -> None:
        """Load the policy files again; keep the old policy where they are invalid."""
        try:
            policy = await trio.to_thread.run_sync(Policy, self._directory)
        except VitrineError as error:
            log.error("the policy stays as it was: %s", error.message)
            await self._record(Outcome.FAILED, self._policy.digest)
            return
        await self._record(Outcome.SUCCESS, policy.digest)
        changed = policy.digest != self._policy.digest
        self._policy = policy
        if changed and self._on_change is not None:
            await self._on_change()

    async def _record(self, outcome: Outcome, digest: str) -> None:
        append = partial(self._audit.append, Event.POLICY_LOADED, outcome, actor="vitrine-gate")
        await trio.to_thread.run_sync(partial(append, details={"policy": digest}))
