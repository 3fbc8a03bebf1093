"""Retention removes what no rule keeps, on the record, and stops when something looks wrong."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid, ObjectDamaged, StoreError, StoreFull
from agent.maintenance import elapsed
from agent.maintenance.retention.durations import duration_ns
from agent.maintenance.retention.job import Retention, RetentionReport, StateFiles
from agent.maintenance.retention.notes import NotesFile
from agent.maintenance.retention.policy import Rules
from agent.model.snapshot import Sign, Snapshot, SnapshotInfo
from agent.repository import layout
from agent.repository.chain import decode_snapshot, encode_snapshot
from agent.repository.holds import (
    MAX_HELD,
    Hold,
    Release,
    new_name,
    put_hold,
    put_release,
    read_holds,
)
from agent.repository.verify import verify
from agent.store.base import Store
from agent.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.contents import objects, store_of
from tests.fakes.faulty_store import Fault, FaultyStore
from tests.fakes.removing import make_chain, remove
from tests.fakes.vaults import Vault, make_vault, snapshots

DAY_S = 86_400.0
DAY_NS = 86_400 * 10**9
YEAR_NS = 31_557_600 * 10**9
DAILY = Rules(daily=3)


class Office:
    """A vault with a chain of two snapshots a day, and its retention."""

    def __init__(self, scratch: Path, days: int = 8) -> None:
        """Make the chain; the last snapshot comes now."""
        self.store: Store = MemoryStore()
        self.vault: Vault = make_vault(self.store)
        self.clock = FakeClock()
        self.scratch = scratch
        self.recorded: list[tuple[str, Mapping[str, int | str]]] = []
        first = self.clock.now_ns() - days * DAY_NS
        make_chain(self.store, self.vault.writer, days * 2, taken_ns=first, every_ns=DAY_NS // 2)

    def hold(self) -> Hold:
        """Hold everything, for a lawsuit."""
        secrets = self.vault.secrets
        hold = Hold(secrets.vault, new_name(), (), 0, "a lawsuit", "officer", 1)
        put_hold(self.store, hold, secrets.reader().index(), SigningKey(secrets.authority))
        return hold

    def job(self, rules: Rules = DAILY, store: Store | None = None) -> Retention:
        """Return the retention, as a run begins it."""
        files = StateFiles.of(self.scratch, "vault")
        return Retention(
            store or self.store, self.clock, self.vault.secrets.reader(), rules, None, files,
            lambda what, details: self.recorded.append((what, details)),
        )  # fmt: skip

    def live(self) -> list[SnapshotInfo]:
        """Return the snapshots there are."""
        return snapshots(self.store, self.vault.secrets)

    def apply(self, rules: Rules = DAILY, confirmed: int = 1000) -> RetentionReport:
        """Run."""
        return self.job(rules).apply(self.live(), self.vault.secrets, confirmed=confirmed)

    def add(self, *, taken_ns: int, signs: tuple[Sign, ...] = ()) -> SnapshotInfo:
        """Commit one more snapshot, which says when it was taken."""
        last, keys = self.live()[-1], self.vault.writer
        snapshot = Snapshot(
            vault=keys.vault, host=keys.host(), sequence=last.snapshot.sequence + 1,
            previous=last.id, root=b"", started_ns=0, taken_ns=taken_ns, files=0, bytes=0,
            signs=signs,
        )  # fmt: skip
        data = encode_snapshot(snapshot, keys.index(), keys.signer())
        name = layout.snapshot(keys.vault, keys.host(), snapshot.sequence)
        self.store.put(name, [data])
        verify_key = keys.signer().verify_key()
        return decode_snapshot(
            data, keys.index(), verify_key, keys.vault, keys.host(), snapshot.sequence
        )


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Return one."""
    return Office(tmp_path)


def test_a_plan_explains_and_removes_nothing(office: Office) -> None:
    """Each snapshot with a reason; the store as it was."""
    before = objects(office.store)
    report = office.job().plan(office.live())
    assert len(report.fates) == 16
    assert all(fate.reasons for fate in report.fates)
    assert 0 < len(report.to_remove) < 16
    assert objects(office.store) == before


def test_what_no_rule_keeps_is_removed_and_the_chain_verifies(office: Office) -> None:
    """As planned; recorded; verify with keys is clean; a second run finds nothing to do."""
    planned = {fate.candidate.id for fate in office.job().plan(office.live()).fates if fate.keep}
    report = office.apply()
    assert report.removed == 16 - len(planned)
    assert {info.id for info in office.live()} == planned
    assert office.recorded[-1][0] == "removed"
    keys = {office.vault.secrets.vault: office.vault.secrets.reader()}
    assert verify(office.store, keys=keys, on_progress=lambda *_: None).is_clean
    assert office.apply().removed == 0


def test_without_rules_nothing_is_ever_removed(office: Office) -> None:
    """The default keeps all."""
    assert office.apply(Rules()).removed == 0
    assert len(office.live()) == 16


def test_many_at_once_freeze_unless_confirmed(office: Office) -> None:
    """A mistyped rule does not empty a vault; the freeze stays until somebody thaws it."""
    report = office.apply(confirmed=0)
    assert "--confirm" in report.frozen
    assert len(office.live()) == 16
    assert office.recorded[-1][0] == "frozen"
    assert office.apply().frozen == report.frozen, "a freeze stays"
    office.job().thaw(office.live(), "that was meant", "admin")
    assert office.recorded[-1][1]["by"] == "admin"
    assert office.apply().removed > 10


def test_an_agent_that_claims_other_times_gains_nothing(office: Office) -> None:
    """A flood of snapshots that say they are of other days pushes no good one out."""
    office.apply()
    good = {info.id for info in office.live()}
    office.clock.advance(3600)
    for day in range(1, 9):
        office.add(taken_ns=office.clock.now_ns() + day * 365 * DAY_NS)
        office.add(taken_ns=office.clock.now_ns() - day * DAY_NS)
    report = office.apply()
    left = {info.id for info in office.live()}
    assert report.removed
    lost = good - left
    assert len(lost) <= 2, "all the flood is of one day, and takes the place of that day's"


def test_a_clock_that_jumps_freezes(office: Office) -> None:
    """Ahead by a year, as an attacker of the time server would, or back."""
    office.apply()
    for days in (365, -3):
        office.clock.set_wall(office.clock.now_ns() + days * DAY_NS)
        report = office.apply()
        assert "clock" in report.frozen
        office.clock.set_wall(office.clock.now_ns() - days * DAY_NS)
        office.job().thaw(office.live(), "set right", "admin")


def test_a_jump_over_a_restart_freezes_whatever_came_meanwhile(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCK_BOOTTIME cannot vouch for it, nor an agent that has the same wrong clock."""
    office.apply()
    before = len(office.live())
    monkeypatch.setattr(elapsed, "_boot", lambda: "after the restart")
    office.clock.set_wall(office.clock.now_ns() + 20 * YEAR_NS)
    office.add(taken_ns=office.clock.now_ns())
    lawful = Rules(daily=1, minimum_age_ns=15 * YEAR_NS)
    office.job(lawful).plan(office.live())  # looking changes nothing about it
    assert "restart" in office.apply(lawful).frozen
    assert len(office.live()) == before + 1


def test_a_jump_is_not_forgotten_when_the_freeze_cannot_be_recorded(office: Office) -> None:
    """With the audit's disk full the run fails; the next one still sees the jump."""
    office.apply()
    office.clock.set_wall(office.clock.now_ns() + YEAR_NS)
    office.add(taken_ns=office.clock.now_ns())

    def full(_what: str, _details: Mapping[str, int | str]) -> None:
        raise StoreFull("no space for the audit")

    with pytest.raises(StoreFull):
        replace(office.job(), record=full).apply(office.live(), office.vault.secrets)
    assert "jumped" in office.apply().frozen


def test_silent_agents_freeze_until_somebody_has_looked(office: Office) -> None:
    """With no new snapshot for weeks, ages alone take nothing; a source may be gone for good."""
    office.apply()
    office.clock.advance(20 * DAY_S)
    assert "two weeks" in office.apply().frozen
    office.job().thaw(office.live(), "the scanner was scrapped", "admin")
    assert not office.apply().frozen
    office.clock.advance(20 * DAY_S)
    assert "two weeks" in office.apply().frozen, "that was good for two weeks"


def test_nothing_frozen_is_no_thaw_and_changes_nothing(office: Office) -> None:
    """No record, and nothing counts as looked at."""
    office.apply()
    office.hold()
    office.apply()
    told, notes = len(office.recorded), office.job().files.notes.read_bytes()
    with pytest.raises(ConfigInvalid, match="not frozen"):
        office.job().thaw(office.live(), "to be sure", "admin")
    assert len(office.recorded) == told
    assert office.job().files.notes.read_bytes() == notes


def test_what_a_plan_says_is_frozen_can_be_thawed(office: Office) -> None:
    """Though no run has yet frozen it on disk."""
    office.apply()
    office.clock.advance(DAY_S)
    office.add(taken_ns=office.clock.now_ns(), signs=(Sign("lost-magic", 900, 1000),))
    assert "attack" in office.job().plan(office.live()).frozen
    assert "attack" in office.job().thaw(office.live(), "a migration", "officer")
    assert not office.apply().frozen


def test_a_thaw_acknowledges_only_what_the_freeze_was_for(office: Office) -> None:
    """Signs and a lost hold that nobody was told of freeze again; told together, they do not."""
    hold = office.hold()
    office.apply()
    office.clock.set_wall(office.clock.now_ns() + YEAR_NS)
    assert "jumped" in office.apply().frozen
    office.clock.advance(DAY_S)
    office.add(taken_ns=office.clock.now_ns(), signs=(Sign("lost-magic", 900, 1000),))
    office.store.delete(layout.hold(hold.vault, hold.name))
    office.job().thaw(office.live(), "the time server was wrong", "admin")
    again = office.apply().frozen
    assert "attack" in again
    assert "holds gone" in again
    office.job().thaw(office.live(), "both are known", "officer")
    assert not office.apply().frozen


def test_notes_that_cannot_be_read_stop_retention(office: Office) -> None:
    """With an error that names the file: nothing is taken for never seen."""
    office.apply()
    office.job().files.notes.write_bytes(b"")
    with pytest.raises(ConfigInvalid, match="vanishes"):
        office.apply()


def test_what_an_interrupted_run_left_is_deleted_on_the_record(office: Office) -> None:
    """It may have ended between its removal record and its audit record."""
    remove(office.store, office.vault.secrets, office.live()[:3], delete=False)
    report = office.apply(Rules())
    assert report.finished == 3
    assert len(list(office.store.list("snapshots/"))) == 13
    assert office.recorded == [("removed", {"finished": 3, "newest": 1})]


def test_signs_of_an_attack_freeze_and_pin_the_last_clean_one(office: Office) -> None:
    """Until somebody has looked; then those signs count as known."""
    office.apply()
    office.clock.advance(DAY_S)
    last_clean = office.live()[-1]
    office.add(taken_ns=office.clock.now_ns(), signs=(Sign("lost-magic", 900, 1000),))
    report = office.apply()
    assert "attack" in report.frozen
    fate = next(f for f in report.fates if f.candidate.id == last_clean.id)
    assert "the last clean one" in fate.reasons
    office.job().thaw(office.live(), "a migration", "officer")
    assert not office.apply().frozen


def test_held_snapshots_stay_until_released(office: Office) -> None:
    """A hold outlives any rule; its release lets it go; a hold until a day ends by itself."""
    secrets = office.vault.secrets
    authority, key = SigningKey(secrets.authority), secrets.reader().index()
    victim = office.live()[0]
    hold = Hold(secrets.vault, new_name(), (victim.id,), 0, "a lawsuit", "officer", 1)
    put_hold(office.store, hold, key, authority)
    office.apply()
    assert victim.id in {info.id for info in office.live()}
    put_release(
        office.store, Release(secrets.vault, hold.name, "settled", "officer", 2), key, authority
    )
    office.apply()
    assert victim.id not in {info.id for info in office.live()}
    assert not hold.holds(office.live()[0].id, 0)
    short = msgspec.structs.replace(hold, snapshots=(), until_ns=5)
    assert short.holds(victim.id, 4)
    assert not short.holds(victim.id, 5)


def test_a_hold_that_vanishes_freezes(office: Office) -> None:
    """Who keeps the storage cannot undo a hold by taking it away."""
    hold = office.hold()
    office.apply()
    office.store.delete(layout.hold(hold.vault, hold.name))
    assert "holds gone" in office.apply().frozen
    assert len(office.live()) == 16


def test_a_hold_that_vanishes_before_any_run_freezes(office: Office) -> None:
    """Who makes a hold notes it, so that it is missed even if no run has ever seen it."""
    hold = office.hold()
    NotesFile(office.job().files.notes).add_hold(hold.name)
    office.store.delete(layout.hold(hold.vault, hold.name))
    assert "holds gone" in office.apply().frozen
    office.job().thaw(office.live(), "lifted by the court", "officer")
    assert not office.apply().frozen


def test_a_hold_too_large_to_be_read_again_is_not_stored(office: Office) -> None:
    """It could not be taken back, and nothing of the vault could ever be removed."""
    secrets = office.vault.secrets
    many = Hold(secrets.vault, new_name(), (bytes(32),) * (MAX_HELD + 1), 0, "all", "officer", 1)
    with pytest.raises(ValueError, match="more than"):
        put_hold(office.store, many, secrets.reader().index(), SigningKey(secrets.authority))
    whole = msgspec.structs.replace(many, snapshots=(bytes(32),) * MAX_HELD)
    put_hold(office.store, whole, secrets.reader().index(), SigningKey(secrets.authority))
    assert read_holds(office.store, secrets.reader()) == [whole]


def test_a_forged_or_damaged_hold_is_an_error(office: Office) -> None:
    """An agent, which can seal, cannot sign; and no byte can be changed."""
    secrets = office.vault.secrets
    key = secrets.reader().index()
    hold = Hold(secrets.vault, new_name(), (), 0, "mine", "agent", 1)
    put_hold(office.store, hold, key, SigningKey(office.vault.writer.signing))
    with pytest.raises(ObjectDamaged, match="authority"):
        read_holds(office.store, secrets.reader())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_whatever_operation_fails_the_next_run_ends_it(office: Office, fault: Fault) -> None:
    """After each, the chain verifies; what a record names is gone for good."""
    before = objects(office.store)
    wanted = {fate.candidate.id for fate in office.job().plan(office.live()).fates if fate.keep}
    failed = 0
    while True:
        inner = store_of(before)
        store = FaultyStore(inner, fail_at=failed + 1, fault=fault, stays_down=True)
        live = snapshots(inner, office.vault.secrets)
        try:
            office.job(store=store).apply(live, office.vault.secrets, confirmed=1000)
        except StoreError:
            left = snapshots(inner, office.vault.secrets)
            assert wanted <= {info.id for info in left}
            office.job(store=inner).apply(left, office.vault.secrets, confirmed=1000)
            names = {layout.snapshot_place(listed.name) for listed in inner.list("snapshots/")}
            assert len(names) == len(wanted)
            assert {i.id for i in snapshots(inner, office.vault.secrets)} == wanted
            failed += 1
            continue
        break
    assert failed > 10


@pytest.mark.parametrize(
    ("text", "days"), [("48h", 2), ("30d", 30), ("2w", 14), ("4y", 1461), ("", 0)]
)
def test_lengths_of_time(text: str, days: float) -> None:
    """As people write them."""
    assert duration_ns(text) == days * DAY_NS


@pytest.mark.parametrize("text", ["5", "d", "5 d", "-5d", "5m", "5D"])
def test_no_length_of_time(text: str) -> None:
    """What is not one is named, with how to write it; months are no fixed length."""
    with pytest.raises(ConfigInvalid, match="no length of time"):
        duration_ns(text)
