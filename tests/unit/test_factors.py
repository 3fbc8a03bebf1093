"""Proving who one is: once a code, ten failures, whatever restarts or races in between."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control.gate_messages import Factors
from agent.crypto.password import PasswordHasher
from agent.crypto.totp import STEP_S
from agent.gate.factors import Proven, Refusal, Refused
from agent.gate.users import MAX_FAILURES, Enrolled
from tests.fakes.clock import FakeClock
from tests.fakes.gate import CHEAP, PASSWORD, GateKit, gate_kit

UID = 1001


@pytest.fixture(name="kit")
def _kit(tmp_path: Path) -> Iterator[GateKit]:
    kit = gate_kit(tmp_path / "users.db", FakeClock())
    yield kit
    kit.database.close()


@pytest.fixture(name="who")
def _who(kit: GateKit) -> Enrolled:
    return kit.enrolled()


def reason(answer: Proven | Refused) -> Refusal | None:
    """Return why it was refused, or None if it was not."""
    return answer.reason if isinstance(answer, Refused) else None


def wrong(code: str) -> str:
    """Return a code that is not `code`, nor near it."""
    return f"{(int(code) + 500_000) % 1_000_000:06d}"


def test_password_and_code_prove_two_factors(kit: GateKit, who: Enrolled) -> None:
    """Both right: the user and both factors; the use is remembered."""
    answer = kit.check.verify(UID, kit.right(who))
    assert answer == Proven(who.user, frozenset({"password", "token"}))
    assert kit.users.by_name("doctor1").last_used_ns == kit.clock.now_ns()
    assert kit.failures() == 0


def test_every_refusal_has_its_reason(kit: GateKit, who: Enrolled) -> None:
    """The audit can tell them apart."""
    right = kit.right(who)
    for uid, factors, expected in (
        (4711, right, Refusal.UNKNOWN_USER),
        (UID, Factors("wrong password", right.otp), Refusal.WRONG_PASSWORD),
        (UID, Factors("", ""), Refusal.WRONG_PASSWORD),
        (UID, Factors(PASSWORD, wrong(right.otp)), Refusal.WRONG_CODE),
        (UID, Factors(PASSWORD, ""), Refusal.WRONG_CODE),
        (UID, right, None),
        (UID, right, Refusal.CODE_REUSED),
    ):
        assert reason(kit.check.verify(uid, factors)) == expected
    kit.users.disable("doctor1")
    assert reason(kit.check.verify(UID, right)) == Refusal.DISABLED


def test_changed_record_is_told_apart(kit: GateKit, who: Enrolled) -> None:
    """A role written into the file: the right factors prove nothing any more."""
    with kit.database.transaction() as db:
        db.execute("INSERT INTO roles VALUES ('doctor1', 'custodian')")
    assert reason(kit.check.verify(UID, kit.right(who))) == Refusal.RECORD_CHANGED


def test_code_is_refused_again_after_a_restart(kit: GateKit, who: Enrolled) -> None:
    """The last accepted step is on disk, not in memory."""
    right = kit.right(who)
    assert reason(kit.check.verify(UID, right)) is None
    restarted = gate_kit(kit.path, kit.clock)
    assert reason(restarted.check.verify(UID, right)) == Refusal.CODE_REUSED
    kit.clock.advance(STEP_S)
    assert reason(restarted.check.verify(UID, right)) == Refusal.CODE_REUSED
    assert reason(restarted.check.verify(UID, restarted.right(who))) is None
    restarted.database.close()


def test_older_code_is_refused_after_a_newer_one(kit: GateKit, who: Enrolled) -> None:
    """Steps only go up: the code before, seen over a shoulder, is worth nothing."""
    older = kit.right(who)
    kit.clock.advance(STEP_S)
    assert reason(kit.check.verify(UID, kit.right(who))) is None
    assert reason(kit.check.verify(UID, older)) == Refusal.CODE_REUSED


def test_code_works_once_for_two_processes_at_once(kit: GateKit, who: Enrolled) -> None:
    """Two connections race with one code: one wins."""
    kits = [gate_kit(kit.path, kit.clock) for _ in range(6)]
    for _ in range(5):
        right = kit.right(who)
        start = threading.Barrier(len(kits))
        answers: list[Refusal | None] = []

        def race(
            mine: GateKit,
            factors: Factors = right,
            start: threading.Barrier = start,
            answers: list[Refusal | None] = answers,
        ) -> None:
            start.wait()
            answers.append(reason(mine.check.verify(UID, factors)))

        threads = [threading.Thread(target=race, args=(mine,)) for mine in kits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers.count(None) == 1
        assert answers.count(Refusal.CODE_REUSED) == len(kits) - 1
        kit.clock.advance(STEP_S)
        kit.users.unlock("doctor1")
    for mine in kits:
        mine.database.close()


def test_ten_failures_lock_and_right_factors_do_not_help(kit: GateKit, who: Enrolled) -> None:
    """After ten in a row nothing is accepted, and the code was not used up by trying."""
    for _ in range(MAX_FAILURES):
        answer = kit.check.verify(UID, Factors("wrong password", "000000"))
        assert reason(answer) == Refusal.WRONG_PASSWORD
    assert reason(kit.check.verify(UID, kit.right(who))) == Refusal.LOCKED
    kit.users.unlock("doctor1")
    assert reason(kit.check.verify(UID, kit.right(who))) is None


@pytest.mark.parametrize("kind", ["password", "code", "reuse"])
def test_every_kind_of_failure_counts(kit: GateKit, who: Enrolled, kind: str) -> None:
    """Guessing codes with a known password is limited as guessing passwords is."""
    right = kit.right(who)
    if kind == "reuse":
        kit.check.verify(UID, right)
    factors = {
        "password": Factors("wrong password", right.otp),
        "code": Factors(PASSWORD, wrong(right.otp)),
        "reuse": right,
    }[kind]
    for count in range(1, MAX_FAILURES + 1):
        kit.check.verify(UID, factors)
        assert kit.failures() == count
    kit.clock.advance(STEP_S)
    assert reason(kit.check.verify(UID, kit.right(who))) == Refusal.LOCKED


def test_limiter_survives_a_restart(kit: GateKit, who: Enrolled) -> None:
    """Restarting the gate gives nobody ten more guesses."""
    for _ in range(MAX_FAILURES):
        restarted = gate_kit(kit.path, kit.clock)
        restarted.check.verify(UID, Factors("wrong password", "000000"))
        restarted.database.close()
    assert reason(kit.check.verify(UID, kit.right(who))) == Refusal.LOCKED


def test_success_forgets_failures(kit: GateKit, who: Enrolled) -> None:
    """Ten in a row lock, not ten in a year."""
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            kit.check.verify(UID, Factors("wrong password", "000000"))
        assert reason(kit.check.verify(UID, kit.right(who))) is None
        kit.clock.advance(STEP_S)


def test_failure_is_on_disk_before_a_factor_is_looked_at(tmp_path: Path) -> None:
    """Whoever kills the gate between the check and the answer has used up a guess."""
    seen: list[int] = []

    class Watching(PasswordHasher):
        """Looks at the file, through another connection, when a password is checked."""

        def verifies(self, password: str, verifier: str | None) -> bool:
            other = gate_kit(tmp_path / "users.db", FakeClock())
            seen.append(other.failures())
            other.database.close()
            return super().verifies(password, verifier)

    kit = gate_kit(tmp_path / "users.db", FakeClock(), hasher=Watching(CHEAP))
    who = kit.enrolled()
    kit.check.verify(UID, Factors("wrong password", "000000"))
    kit.check.verify(UID, kit.right(who))
    assert seen == [1, 2]
    assert kit.failures() == 0
    kit.database.close()


def test_many_guesses_at_once_are_ten(kit: GateKit) -> None:
    """Thirty in flight together: ten are looked at, twenty are locked out."""
    kit.enrolled()
    answers: list[Refusal | None] = []

    def guess() -> None:
        answers.append(reason(kit.check.verify(UID, Factors("wrong password", "000000"))))

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(Refusal.WRONG_PASSWORD) == MAX_FAILURES
    assert answers.count(Refusal.LOCKED) == 20


def test_code_with_a_wrong_password_is_not_used_up(kit: GateKit, who: Enrolled) -> None:
    """A slip of the password does not cost half a minute."""
    right = kit.right(who)
    kit.check.verify(UID, Factors("wrong password", right.otp))
    assert reason(kit.check.verify(UID, right)) is None


def test_the_same_work_is_done_for_everybody(tmp_path: Path) -> None:
    """One password check and one synced write, for unknown, disabled and locked users alike."""
    checks: list[bool] = []

    class Counting(PasswordHasher):
        """Counts."""

        def verifies(self, password: str, verifier: str | None) -> bool:
            checks.append(True)
            return super().verifies(password, verifier)

    kit = gate_kit(tmp_path / "users.db", FakeClock(), hasher=Counting(CHEAP))
    kit.enrolled()
    kit.enrolled("leaver", 1002)
    kit.users.disable("leaver")
    for uid in (UID, 1002, 4711, *[UID] * MAX_FAILURES):
        with kit.database.transaction() as db:
            before = db.total_changes
        checks.clear()
        kit.check.verify(uid, Factors("wrong password", "000000"))
        with kit.database.transaction() as db:
            assert db.total_changes == before + 1
        assert checks == [True]
    kit.database.close()


def test_recovery_code_stands_in_for_the_token_once(kit: GateKit, who: Enrolled) -> None:
    """However it is typed, and never again, nor after a restart."""
    code = who.recovery_codes[3]
    answer = kit.check.verify(UID, Factors(PASSWORD, f" {code.lower()} "))
    assert isinstance(answer, Proven)
    assert answer.recovery_code
    assert answer.factors == {"password", "token"}
    assert kit.attempts.recovery_codes_left("doctor1") == 7
    restarted = gate_kit(kit.path, kit.clock)
    assert reason(restarted.check.verify(UID, Factors(PASSWORD, code))) == Refusal.WRONG_CODE
    restarted.database.close()


def test_all_recovery_codes_work_and_only_for_their_user(kit: GateKit, who: Enrolled) -> None:
    """Eight for one, none for another."""
    other = kit.enrolled("doctor2", 1002)
    for code in other.recovery_codes:
        assert reason(kit.check.verify(UID, Factors(PASSWORD, code))) == Refusal.WRONG_CODE
    for code in who.recovery_codes[:1]:
        assert reason(kit.check.verify(UID, Factors(PASSWORD, code))) is None
    for code in other.recovery_codes:
        assert reason(kit.check.verify(1002, Factors(PASSWORD, code))) is None
    assert kit.attempts.recovery_codes_left("doctor2") == 0


def test_recovery_code_needs_the_password(kit: GateKit, who: Enrolled) -> None:
    """It replaces the token, nothing else, and is not used up without the password."""
    code = who.recovery_codes[0]
    answer = kit.check.verify(UID, Factors("wrong password", code))
    assert reason(answer) == Refusal.WRONG_PASSWORD
    assert reason(kit.check.verify(UID, Factors(PASSWORD, code))) is None


def test_disabling_meanwhile_wins(kit: GateKit, who: Enrolled) -> None:
    """A user disabled between the check and the acceptance gets nothing."""
    step = who.token.matching_step(kit.right(who).otp, kit.clock.now_ns())
    assert step is not None
    kit.users.disable("doctor1")
    assert not kit.attempts.accept_step("doctor1", step, 1)
