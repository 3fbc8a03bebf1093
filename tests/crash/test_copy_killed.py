"""A copy that is killed at any moment, on a real file system, is consistent, and goes on."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.maintenance.copy import Copying
from agent.repository.genuine import Genuine
from agent.repository.verify import verify
from agent.store.base import Part
from agent.store.local import LocalStore
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import objects
from tests.unit.test_repair import Site

A_PUT_S = 0.005  # longer than storing an object takes


class Doomed(LocalStore):
    """A store whose process the kernel ends so long after it began to put the n-th object."""

    dies_at, after_s, _puts = 0, 0.0, 0

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Store the object, unless death comes first."""
        if self._puts == self.dies_at:
            signal.setitimer(signal.ITIMER_REAL, self.after_s)
        self._puts += 1
        super().put(name, parts)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[Site, LocalStore]]:
    """Return a repository with parity in a directory."""
    site = Site(tmp_path / "made", commits=15)
    store = LocalStore.create(tmp_path / "repository")
    for name, data in site.whole.items():
        store.put(name, [data])
    yield site, store
    store.close()


def _killed(source: Path, target: Path, at: int, after_s: float) -> bool:
    """Copy in a process that dies so long after its put `at`; tell whether it did."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            first, second = LocalStore(source), Doomed.create(target)
            second.dies_at, second.after_s = at, after_s
            Copying(first, second, Genuine(first)).run(lambda *_: None)
        finally:
            os._exit(0)  # never back into pytest
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_copy_that_is_killed_again_and_again_ends_whole(
    source: tuple[Site, LocalStore], tmp_path: Path
) -> None:
    """After each kill all that is in it is right, and every snapshot in it is whole."""
    site, store = source
    moments, kills = chance("copy killed"), 0
    for number in range(rounds(8)):
        target = tmp_path / f"copy{number % 2}"
        at = moments.randrange(len(site.whole) // 2)  # what is there already is not put again
        kills += _killed(tmp_path / "repository", target, at, moments.uniform(1e-6, A_PUT_S))
        if not (target / "repository").exists():
            continue
        second = LocalStore(target)
        assert objects(second).items() <= site.whole.items()
        report = verify(second, keys=site.keys, read_data=True, on_progress=lambda *_: None)
        assert report.is_clean, report.findings
        second.close()
    assert kills, "it was never killed in its midst"
    for target in (tmp_path / "copy0", tmp_path / "copy1"):
        second = LocalStore.create(target)
        Copying(store, second, Genuine(store)).run(lambda *_: None)
        assert objects(second) == site.whole
        assert not list(target.glob(".tmp-*"))
        second.close()
