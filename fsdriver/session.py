"""From a grant and a reader to a mount that is served: which part takes which."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Protocol

import msgspec

from agent.clock import Clock
from agent.control.session_messages import WorkerGrant
from agent.crypto.naming import IdKey
from agent.model.snapshot import SnapshotInfo
from fsdriver.ahead import WORKERS, ReadAhead
from fsdriver.cache import PageCache, PageReader
from fsdriver.content import ContentReader
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.mount import Deadline, Mount, begin
from fsdriver.operations import VitrineOperations
from fsdriver.view import View

PAGES_SHARE = 4  # a quarter of the memory granted is for decoded pages
_AHEAD_SHARE = 4  # reading ahead must not push out what is being read


class VaultFiles(PageReader, ContentReader, Protocol):
    """What reads trees and contents of a vault: agent.repository.reader.VaultReader."""


async def serve_session(
    grant: WorkerGrant, reader: VaultFiles, gatekeeper: Gatekeeper, at: str | int, clock: Clock
) -> None:
    """Mount at a directory, or answer on a descriptor of a mount that exists, until locked."""
    pages_bytes = grant.cache_bytes // PAGES_SHARE
    pages = PageCache(reader, pages_bytes)
    snapshots = [msgspec.msgpack.decode(raw, type=SnapshotInfo) for raw in grant.snapshots]
    until_ns = grant.newest_only_until_ns
    view = View(snapshots, until_ns, IdKey(grant.id_key), datetime.astimezone)
    ahead_bytes = (grant.cache_bytes - pages_bytes) // _AHEAD_SHARE
    threads = ThreadPoolExecutor(WORKERS, "ahead")
    ahead = ReadAhead(pages, pages.only, reader, ahead_bytes, threads.submit)
    operations = VitrineOperations(view, pages, reader, ahead, gatekeeper)
    own_path = at if isinstance(at, str) else ""
    begin(operations, own_path or f"/dev/fd/{at}", clock, own=bool(own_path))
    deadline = Deadline(grant.ends_ns, grant.idle_s, clock)
    await Mount(operations, gatekeeper, deadline, own_path).serve()
