"""The power goes at every moment of a run, over a disk that keeps only what was synced.

The store is the real one: its system calls are recorded, and every state is looked at that the
disk could be found in.  The agent's journal is as it was committed at that moment.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent.store import exact, local, temporary
from agent.store.base import Draft, Part
from agent.store.local import LocalStore
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import objects
from tests.fakes.crash_disk import (
    Change,
    Named,
    RecordedOs,
    State,
    Synced,
    Written,
    lay_out,
    states,
)
from tests.fakes.history import History
from tests.fakes.vaults import stored_ids

RUNS_IN_CI = 200


class Acknowledging(LocalStore):
    """Notes what was put, and after how many changes of the disk that was said."""

    def __init__(self, root: Path) -> None:
        """Open the store."""
        super().__init__(root)
        self.count: Callable[[], int] = lambda: 0
        self.puts: list[tuple[int, str, bytes]] = []

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Put, and note it."""
        super().put(name, parts)
        self.puts.append((self.count(), name, b"".join(parts)))

    def begin(self) -> Draft:
        """Begin a draft, and note it when it is kept."""
        return _AcknowledgedDraft(super().begin(), self)


class _AcknowledgedDraft:
    """Notes what was written once it is kept."""

    def __init__(self, inner: Draft, store: Acknowledging) -> None:
        """Take the real one."""
        self._inner = inner
        self._store = store
        self._written = bytearray()

    def write(self, part: Part) -> None:
        """Write, and keep a copy."""
        self._inner.write(part)
        self._written += part

    def keep(self, name: str) -> None:
        """Keep, and note it."""
        self._inner.keep(name)
        self._store.puts.append((self._store.count(), name, bytes(self._written)))

    def drop(self) -> None:
        """Drop it."""
        self._inner.drop()


class Recorded:
    """One run after a history, and all that the disk went through for it."""

    def __init__(self, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run."""
        self.history = history
        self.journals: list[bytes] = []
        root = history.scratch / "recorded"
        root.mkdir()
        with monkeypatch.context() as patched:
            recorded = RecordedOs(str(root), self._keep_journal)
            patched.setattr(local, "os", recorded)
            patched.setattr(exact, "os", recorded)
            patched.setattr(temporary, "os", recorded)
            self.store = Acknowledging(root)
            self.store.count = lambda: len(recorded.changes)
            for name, data in history.before.items():
                self.store.put(name, [data])
            self.began = len(recorded.changes)
            made = history.begin(self.store)
            self.journal = history.scratch / history.states / "journal.sqlite"
            made.run()
            self.changes: list[Change] = recorded.changes
            made.backup.close()
            self.store.close()
        self.journals.append(self.journal.read_bytes())

    def _keep_journal(self, _: int) -> None:
        """Keep what the journal's commits have made durable so far."""
        found = getattr(self, "journal", None)
        if found is None or not found.exists():
            self.journals.append(b"")
            return
        copy = found.with_suffix(".copy")
        copy.unlink(missing_ok=True)
        with sqlite3.connect(found) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        self.journals.append(copy.read_bytes())

    def moments(self) -> Iterator[tuple[int, State]]:
        """Yield every state that the run could have ended in, after so many changes."""
        seen: set[tuple[State, bytes]] = set()
        for count in range(self.began, len(self.changes) + 1):
            for state in sorted(states(self.changes[:count]), key=repr):
                if (state, self.journals[count]) not in seen:
                    seen.add((state, self.journals[count]))
                    yield count, state

    def acknowledged(self, count: int) -> dict[str, bytes]:
        """Return what was said to be stored by the time of the first `count` changes."""
        return {name: data for at, name, data in self.store.puts if at <= count}


@pytest.fixture(params=[0, 1], ids=["first", "incremental"])
def recorded(
    request: pytest.FixtureRequest,
    ram: Path,
    many_checkpoints: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Recorded:
    """Return a recorded run, of a vault's first snapshot or its second."""
    return Recorded(History(ram, request.param), monkeypatch)


@pytest.mark.slow
def test_whenever_the_power_goes_what_was_put_is_there_whole_and_the_rest_not_at_all(
    recorded: Recorded,
) -> None:
    """Rule 2 of the store, at every system call and for every subset of names not synced."""
    known = {name: data for _, name, data in recorded.store.puts}
    looked_at = 0
    for count, state in recorded.moments():
        files = {path: data for path, data in state if data is not None}
        there = {path: data for path, data in files.items() if not path.startswith(".")}
        assert recorded.acknowledged(count).items() <= there.items() <= known.items(), count
        looked_at += 1
    assert looked_at > 100


@pytest.mark.slow
def test_whenever_the_power_goes_the_next_run_finds_its_way(recorded: Recorded) -> None:
    """Old snapshots read back, the next one is of the source, nothing is stored twice."""
    moments = list(recorded.moments())
    picked = chance("moments").sample(moments, min(len(moments), rounds(RUNS_IN_CI)))
    for number, (count, state) in enumerate(picked):
        root = recorded.history.scratch / f"found{number}"
        lay_out(state, str(root))
        _goes_on(recorded, count, root)


def _goes_on(recorded: Recorded, count: int, root: Path) -> None:
    history = recorded.history
    store = LocalStore(root)
    assert not [path for path in root.iterdir() if path.name.startswith(".")]
    assert history.known.items() <= history.read(store).items()
    state = root.with_name(root.name + "-state")
    state.mkdir()
    if recorded.journals[count]:
        (state / "journal.sqlite").write_bytes(recorded.journals[count])
    made = history.begin(store, state)
    made.run()
    made.backup.close()
    host = history.vault.writer.host()
    assert history.read(store)[host, len(history.known) + 1] == history.now
    ids = stored_ids(store, history.vault.secrets)
    assert len(ids) == len(set(ids))
    assert recorded.acknowledged(count).items() <= objects(store).items()
    store.close()


# -- that the simulated disk is as unkind as it says ----------------------------------------------


def test_what_was_not_synced_may_be_lost_halved_or_there() -> None:
    """A name before its bytes, bytes without a name; a name that was synced stays."""
    made: list[Change] = [Named(0, "a", 1), Written(1, b"abcd")]
    assert states(made) == {
        (),
        (("a", b""),),
        (("a", b"ab"),),
        (("a", b"abcd"),),
    }
    assert states([*made, Synced(1)]) == {(), (("a", b"abcd"),)}
    assert states([*made, Synced(0)]) == {(("a", b""),), (("a", b"ab"),), (("a", b"abcd"),)}
    removed: list[Change] = [*made, Synced(1), Synced(0), Named(0, "a", None)]
    assert states(removed) == {(), (("a", b"abcd"),)}


@pytest.mark.parametrize("forgotten", ["file", "directory"])
def test_a_store_that_forgets_a_sync_is_found_out(
    ram: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """Without the file's fsync an object is torn; without the directory's it is gone."""
    recorded = RecordedOs(str(ram))
    monkeypatch.setattr(local, "os", recorded)
    monkeypatch.setattr(exact, "os", recorded)
    monkeypatch.setattr(temporary, "os", recorded)
    store = LocalStore(ram)
    store.put("d/name", [b"content"])
    directories = {0} | {
        c.node for c in recorded.changes if isinstance(c, Named) and c.is_directory
    }
    kept = [
        change
        for change in recorded.changes
        if not isinstance(change, Synced)
        or (change.node in directories) is not (forgotten == "directory")
    ]
    store.close()
    found = [dict(state).get("d/name") for state in states(kept)]
    assert (b"" if forgotten == "file" else None) in found
    assert {dict(state).get("d/name") for state in states(recorded.changes)} == {b"content"}
