"""Storage that lies: what comes out is right, or a named error; and whoever verifies is told.

One byte flipped at every offset of every object of a small repository; every object cut short,
lengthened, withheld, swapped with every other, served again under another name; and the whole
repository served as it was before.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.clock import SystemClock
from agent.errors import ChainBroken, VitrineError
from agent.gate.vaults import GateVault
from agent.repository import vaults
from agent.repository.chain import Chains
from agent.repository.frames import FrameReader
from agent.repository.indexcache import IndexCache
from agent.repository.packkeys import OpeningKeys
from agent.repository.reader import VaultReader
from agent.repository.rebuild import rebuild_index
from agent.repository.seen import SeenChains
from agent.repository.verify import verify
from agent.restore.recover import Recovery, Wanted
from agent.store.base import Store
from tests.fakes.backups import BackupFixture
from tests.fakes.chance import chance, rounds
from tests.fakes.contents import Contents, objects, on_disk, store_of, stored
from tests.fakes.vaults import PASSPHRASE, Vault, snapshots

ExpectLog = Callable[..., None]
Told = dict[tuple[bytes, int], Contents]
RECOVERIES_IN_CI = 300
PAIRS_IN_CI = 120


class Small:
    """A repository of a vault with two snapshots, as objects, and what is true of it."""

    def __init__(self, scratch: Path) -> None:
        """Make it."""
        self.scratch = scratch
        made = BackupFixture(store_of({}), scratch)
        self.vault: Vault = made.vault
        source = Path(made.source.decode())
        (source / "image").write_bytes(b"pixels " * 9)
        made.run()
        self.older = objects(made.store)
        (source / "report").symlink_to("image")
        (source / "second").write_bytes(b"more pixels")
        made.run()
        made.backup.close()
        self.held = objects(made.store)
        self.source = made.source
        self.now = on_disk(made.source)
        self.truth: Told = self.read(store_of(self.held))

    def read(self, store: Store) -> Told:
        """Read every snapshot, as a recovery does: with the passphrase and nothing else."""
        vaults.open_repository(store)
        secrets = vaults.secrets_by_passphrase(store, "radiology", PASSPHRASE)
        keys = secrets.reader()
        writers = vaults.enrolled_writers(store, keys.vault, keys.authority_key())
        chains = Chains(store, keys.vault, keys.index(), writers)
        cache = IndexCache(self.scratch / "cache", store, keys.vault, keys.index())
        index = rebuild_index(store, cache, keys.vault, keys.index(), lambda *_: None).index
        frames = FrameReader(store, keys.vault, OpeningKeys.of(secrets), cache_bytes=1 << 20)
        reader = VaultReader(frames, index, keys.ids())
        for path in (self.scratch / "cache").iterdir():
            path.unlink()  # the next one is to ask the store again
        return {
            (info.snapshot.host, info.snapshot.sequence): stored(reader, info)
            for info in chains.snapshots()
        }

    def told(self, held: dict[str, bytes]) -> Told | None:
        """Return what is read of altered objects, or None where that is a named error."""
        try:
            return self.read(store_of(held))
        except VitrineError:
            return None

    def is_found(self, held: dict[str, bytes]) -> bool:
        """Tell whether a verification finds anything in altered objects."""
        keys = {self.vault.secrets.vault: self.vault.secrets.reader()}
        try:
            report = verify(store_of(held), keys=keys, read_data=True, on_progress=lambda *_: None)
        except VitrineError:
            return True
        return not report.is_clean or report.unindexed_packs > 0


@pytest.fixture
def small(ram: Path) -> Small:
    """Return the repository."""
    return Small(ram)


@pytest.fixture(autouse=True)
def warnings(expect_log: ExpectLog, request: pytest.FixtureRequest) -> None:
    """Declare what is logged of an object that is left out."""
    for pattern in getattr(request.function, "logs", ()):
        expect_log(pattern)


def logs(*patterns: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which warnings a test is going to cause."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.logs = patterns  # type: ignore[attr-defined]
        return test

    return mark


def _flips(held: dict[str, bytes], mask: Callable[[], int]) -> Iterator[tuple[str, int, bytes]]:
    for name, data in held.items():
        for at in range(len(data)):
            yield name, at, data[:at] + bytes([data[at] ^ mask()]) + data[at + 1 :]


@pytest.mark.slow
@logs("is left out: index/", "is passed over")
def test_a_byte_flipped_anywhere_is_corrected_or_named_and_never_silent(small: Small) -> None:
    """At every offset: either the read says so, or it is right and a verification says so.

    Only the repository's own id and date may change unseen: they guard nothing.
    """
    random = chance("flips")
    silent: set[tuple[str, int]] = set()
    for _ in range(rounds(1)):
        for name, at, data in _flips(small.held, lambda: random.randrange(1, 256)):
            held = small.held | {name: data}
            told = small.told(held)
            assert told is None or told == small.truth, (name, at)
            if told is not None and not small.is_found(held):
                silent.add((name, at))
    assert silent <= _free_bytes(small.held["repository"])


def _free_bytes(data: bytes) -> set[tuple[str, int]]:
    """Return the places in the repository object where another byte still makes sense."""
    info = msgspec.json.decode(data, type=vaults.RepositoryInfo)
    free: set[tuple[str, int]] = set()
    for value in (info.id, str(info.created_ns), "\n"):
        at = data.rindex(value.encode())
        free |= {("repository", n) for n in range(at, at + len(value))}
    return free


@pytest.mark.slow
@logs("is left out: index/")
def test_a_recovery_from_flipped_bytes_writes_what_was_there_or_says_what_is_missing(
    small: Small,
) -> None:
    """At offsets drawn from all: no file has its name and other bytes."""
    random = chance("recoveries")
    flips = list(_flips(small.held, lambda: random.randrange(1, 256)))
    flips = [flip for flip in flips if "/slots/" not in flip[0]]
    picked = random.sample(flips, min(len(flips), rounds(RECOVERIES_IN_CI)))
    complete = 0
    for number, (name, at, data) in enumerate(picked):
        target = small.scratch / f"target{number}"
        recovery = Recovery(store_of(small.held | {name: data}), SystemClock(), lambda *_: None)
        try:
            recovery.recover(Wanted("radiology"), PASSPHRASE, str(target)).outcome.check()
        except VitrineError:
            whole = False
        else:
            whole = True
        source = str(target / "source").encode()
        found = on_disk(source) if (target / "source").is_dir() else {}
        named = {p: d for p, d in found.items() if not p.startswith(b".vitrine-")}
        assert named.items() <= small.now.items(), (name, at)
        assert named == small.now or not whole, (name, at)
        complete += whole
    assert 0 < complete < len(picked)


@logs("is left out: index/", "is passed over")
def test_an_object_cut_short_or_lengthened_is_named(small: Small) -> None:
    """At its start, in its middle, by its last byte, and by one too many."""
    for name, data in small.held.items():
        last = 2 if name == "repository" else 1  # whose last byte ends a line
        for length in sorted({0, 1, 8, len(data) // 3, len(data) // 2, len(data) - last}):
            _either_told(small, name, data[:length])
        _either_told(small, name, data + b"\0")
        _either_told(small, name, data + data)


def _either_told(small: Small, name: str, data: bytes) -> None:
    held = small.held | {name: data}
    told = small.told(held)
    assert told is None or told == small.truth, (name, len(data))
    assert told is None or small.is_found(held), (name, len(data))


def test_a_withheld_object_is_missed(small: Small) -> None:
    """Unless it is the newest snapshot, which only a gate that has seen it can miss."""
    newest = max(name for name in small.held if name.startswith("snapshots/"))
    for name in small.held:
        held = {other: data for other, data in small.held.items() if other != name}
        told = small.told(held)
        if name == newest:
            assert told is not None
            assert told.items() < small.truth.items()
            continue
        assert told is None or told == small.truth, name
        assert told is None or small.is_found(held), name


@pytest.mark.slow
@logs("is left out: index/", "is passed over")
def test_objects_served_in_each_others_place_are_named(small: Small) -> None:
    """Every object under every other's name, and pairs swapped: right bytes or a named error."""
    random = chance("pairs")
    names = list(small.held)
    pairs = [(one, other) for one in names for other in names if one != other]
    for one, other in random.sample(pairs, min(len(pairs), rounds(PAIRS_IN_CI))):
        _either_told(small, one, small.held[other])
        swapped = small.held | {one: small.held[other], other: small.held[one]}
        told = small.told(swapped)
        assert told is None or told == small.truth, (one, other)
        assert told is None or small.is_found(swapped), (one, other)


@logs("is left out: index/")
def test_an_object_served_a_second_time_under_a_name_of_its_kind_adds_nothing(
    small: Small,
) -> None:
    """A pack or index that is a copy, an old snapshot as the next one, a keyslot twice."""
    for name, data in small.held.items():
        if name == "repository":
            continue
        digits = name[-1]
        again = name[:-1] + ("0" if digits != "0" else "f")
        if name.startswith("snapshots/"):
            again = name[:-16] + f"{int(name[-16:], 16) + 2:016x}"
        held = small.held | ({again: data} if again not in small.held else {})
        told = small.told(held)
        assert told is None or told == small.truth, name
        assert told is None or small.is_found(held), name


# -- time turned back -----------------------------------------------------------------------------


class Switched:
    """A store that serves one state of the repository, and then another."""

    def __init__(self, held: dict[str, bytes]) -> None:
        """Serve these objects first."""
        self.now = store_of(held)

    def __getattr__(self, name: str) -> object:
        """Pass on to the state that is served."""
        return getattr(self.now, name)


def _gate(small: Small, store: Store, number: int) -> GateVault:
    """Return a gate's view of the vault, over what this gate has seen before."""
    seen = SeenChains(small.scratch / "seen.json")
    cache = small.scratch / f"gate{number}"
    return GateVault(small.vault.secrets.reader(), store, cache, bytes(32), seen)


def test_an_older_state_of_the_repository_is_refused_by_a_gate_that_saw_a_newer_one(
    small: Small,
) -> None:
    """While it runs, and after it was started again; the newer state is served as before."""
    switched = Switched(small.held)
    gate = _gate(small, switched, 0)  # type: ignore[arg-type]
    assert len(gate.snapshots()) == 2
    switched.now = store_of(small.older)
    for asked in (gate, _gate(small, switched, 1)):  # type: ignore[arg-type]
        with pytest.raises(ChainBroken, match="rolled back"):
            asked.snapshots()
    switched.now = store_of({n: d for n, d in small.held.items() if "snapshots/" not in n})
    with pytest.raises(ChainBroken, match="rolled back"):
        gate.snapshots()
    switched.now = store_of(small.held)
    assert len(_gate(small, switched, 2).snapshots()) == 2  # type: ignore[arg-type]


def test_a_history_that_went_another_way_is_refused_by_a_gate_that_saw_the_first(
    small: Small,
) -> None:
    """Both are signed by the same host: only who remembers can tell that they differ."""
    gate = _gate(small, store_of(small.held), 0)
    assert len(gate.snapshots()) == 2
    fork = BackupFixture(store_of(small.older), small.scratch, vault=small.vault)
    fork.backup.close()
    fork.backup = fork.another("forked")
    (Path(small.source.decode()) / "image").write_bytes(b"something else")
    fork.run()
    fork.run(force=True)
    fork.backup.close()
    assert len(snapshots(fork.store, small.vault.secrets)) == 3
    with pytest.raises(ChainBroken, match="is another one"):
        _gate(small, fork.store, 1).snapshots()
