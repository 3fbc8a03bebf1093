"""Prune as maintenance runs it, over any store, with time that a test moves."""

from collections.abc import Callable
from pathlib import Path

from agent.crypto.secrets import VaultSecrets
from agent.maintenance.prune.fates import DAY_NS, Waits
from agent.maintenance.prune.job import Prune
from agent.maintenance.prune.report import PruneReport
from agent.maintenance.prune.waste import Limits
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.store.base import Store
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import snapshots

WAITS = Waits(min_age_ns=2 * DAY_NS, grace_ns=3 * DAY_NS)
NEVER_REWRITE = Limits(WAITS, used_share=0.0)
REWRITE = Limits(WAITS, used_share=0.95)


def prune(
    store: Store,
    secrets: VaultSecrets,
    scratch: Path,
    *,
    days: float = 1.0,
    limits: Limits = NEVER_REWRITE,
    dry_run: bool = False,
    clock: FakeClock | None = None,
    spend_time: Callable[[], None] = lambda: None,
) -> PruneReport:
    """Run once, `days` after the last time."""
    keys = secrets.reader()
    cache = IndexCache(scratch / "maintenance", store, keys.vault, keys.index())
    frames = FrameReader(store, keys.vault, OpeningKeys.of(secrets), cache_bytes=16 << 20)
    work = Prune(
        store, clock or FakeClock(), keys, secrets, frames, cache, spend_time, lambda _: None
    )
    live = snapshots(store, secrets)
    return work.run(live, int(days * DAY_NS), limits, lambda *_: None, dry_run=dry_run)


def prune_to_the_end(
    store: Store, secrets: VaultSecrets, scratch: Path, *, limits: Limits = NEVER_REWRITE
) -> list[PruneReport]:
    """Run once a day until nothing is left to delete."""
    reports: list[PruneReport] = []
    while len(reports) < 20:
        reports.append(prune(store, secrets, scratch, limits=limits))
        last = reports[-1]
        if not (last.noted or last.condemned or last.swept):
            return reports
    raise AssertionError("pruning does not come to an end")
