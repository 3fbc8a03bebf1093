"""The gate's users: what is kept of them, what is refused, and what a changed file is worth."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.crypto.recoverycodes import CODES
from agent.errors import ConfigInvalid, NotFound, RepositoryTooNew, StoreUnavailable
from agent.gate.database import Database
from agent.gate.roles import Role
from agent.gate.users import MAX_FAILURES, User
from tests.fakes.clock import FakeClock
from tests.fakes.gate import PASSWORD, GateKit, gate_kit


@pytest.fixture(name="kit")
def _kit(tmp_path: Path) -> Iterator[GateKit]:
    kit = gate_kit(tmp_path / "users.db", FakeClock())
    yield kit
    kit.database.close()


def test_user_is_found_as_added(kit: GateKit) -> None:
    """By uid, by name and in the list, after a restart too."""
    added = kit.users.add("head.1", 7, ["department-head", "doctor"], "Intensive Care", PASSWORD)
    expected = User("head.1", 7, frozenset({Role.DOCTOR, Role.DEPARTMENT_HEAD}), "Intensive Care")
    assert added.user == expected
    again = gate_kit(kit.path, kit.clock)
    assert again.users.by_uid(7) == again.users.by_name("head.1") == expected
    assert again.users.all() == (expected,)
    assert expected.state == "active"
    again.database.close()


def test_enrolment_gives_a_token_and_eight_codes(kit: GateKit) -> None:
    """What is shown once: twenty random bytes and eight codes, others for the next user."""
    first, second = kit.enrolled(), kit.enrolled("doctor2", 1002)
    assert first.token.secret != second.token.secret
    assert len(first.recovery_codes) == CODES
    assert not set(first.recovery_codes) & set(second.recovery_codes)


def test_file_holds_no_secret_and_is_its_owners(kit: GateKit) -> None:
    """Neither password, token nor recovery code lies in the files; nobody else may read them."""
    who = kit.enrolled()
    secrets = [PASSWORD.encode(), who.token.secret]
    secrets += [code.replace("-", "").encode() for code in who.recovery_codes]
    secrets += [code.encode() for code in who.recovery_codes]
    for path in kit.path.parent.iterdir():
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data]
        assert os.stat(path).st_mode & 0o077 == 0


def test_unknown_user_is_none_or_not_found(kit: GateKit) -> None:
    """A uid may be anybody's; a name is asked for on purpose."""
    assert kit.users.by_uid(4711) is None
    for act in (kit.users.by_name, kit.users.disable, kit.users.unlock):
        with pytest.raises(NotFound, match="nobody1"):
            act("nobody1")


@pytest.mark.parametrize(("name", "uid"), [("doctor1", 2), ("other", 1001)])
def test_taken_name_or_uid_is_refused(kit: GateKit, name: str, uid: int) -> None:
    """One person a name, one a uid."""
    kit.enrolled()
    with pytest.raises(ConfigInvalid, match="already"):
        kit.enrolled(name, uid)
    assert len(kit.users.all()) == 1


@pytest.mark.parametrize(
    ("name", "uid", "roles", "department", "password"),
    [
        ("", 1, ["doctor"], "radiology", PASSWORD),
        ("Doctor", 1, ["doctor"], "radiology", PASSWORD),
        ("../root", 1, ["doctor"], "radiology", PASSWORD),
        ("d\nx", 1, ["doctor"], "radiology", PASSWORD),
        ("doctor1\n", 1, ["doctor"], "radiology", PASSWORD),
        ("d" * 33, 1, ["doctor"], "radiology", PASSWORD),
        ("d", -1, ["doctor"], "radiology", PASSWORD),
        ("d", 2**32 - 1, ["doctor"], "radiology", PASSWORD),
        ("d", 1, [], "radiology", PASSWORD),
        ("d", 1, ["doctor", "king"], "radiology", PASSWORD),
        ("d", 1, ["doctor"], "", PASSWORD),
        ("d", 1, ["doctor"], "a\x1b[31m", PASSWORD),
        ("d", 1, ["doctor"], "radiology", "short"),
    ],
)
def test_bad_value_adds_nobody(
    kit: GateKit, name: str, uid: int, roles: list[str], department: str, password: str
) -> None:
    """Refused with what would be right; nothing is half-added."""
    with pytest.raises(ConfigInvalid):
        kit.users.add(name, uid, roles, department, password)
    assert kit.users.all() == ()


def test_disabled_user_keeps_name_and_frees_uid(kit: GateKit) -> None:
    """The record stays for the audit; the uid may go to somebody new, the name to nobody."""
    kit.enrolled()
    assert kit.users.disable("doctor1").state == "disabled"
    found = kit.users.by_uid(1001)
    assert found is not None
    assert found.disabled
    with pytest.raises(ConfigInvalid):
        kit.enrolled("doctor1", 5)
    kit.enrolled("newcomer", 1001)
    found = kit.users.by_uid(1001)
    assert found is not None
    assert found.name == "newcomer"
    assert [user.state for user in kit.users.all()] == ["disabled", "active"]


def test_disabling_destroys_token_and_codes(kit: GateKit) -> None:
    """Whoever switches a leaver on again in the file has nothing that proves them."""
    who = kit.enrolled()
    kit.users.disable("doctor1")
    assert kit.attempts.recovery_codes_left("doctor1") == 0
    with kit.database.transaction() as db:
        db.execute("UPDATE users SET disabled = 0")
    attempt = kit.attempts.begin(1001)
    assert attempt.token is None
    assert not kit.attempts.accept_recovery_code("doctor1", who.recovery_codes[0], 1)


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO roles VALUES ('doctor1', 'custodian')",
        "UPDATE roles SET role = 'auditor'",
        "DELETE FROM roles",
        "UPDATE users SET department = 'records'",
        "UPDATE users SET uid = 1002",
        "UPDATE users SET token = x'00'",
        "UPDATE users SET token = zeroblob(length(token))",
    ],
)
def test_right_written_into_the_file_opens_no_token(kit: GateKit, change: str) -> None:
    """Rights come from the gate: whoever edits its file loses the user instead."""
    kit.enrolled()
    with kit.database.transaction() as db:
        db.execute(change)
    changed = kit.users.by_name("doctor1")
    assert kit.attempts.begin(changed.uid).token is None


def test_token_of_another_user_does_not_open(kit: GateKit) -> None:
    """Copying one's own token into somebody else's record proves nothing."""
    kit.enrolled()
    kit.enrolled("doctor2", 1002)
    with kit.database.transaction() as db:
        db.execute(
            "UPDATE users SET token = (SELECT token FROM users WHERE name = 'doctor2')"
            " WHERE name = 'doctor1'"
        )
    assert kit.attempts.begin(1001).token is None
    assert kit.attempts.begin(1002).token is not None


def test_token_does_not_open_without_the_credential(kit: GateKit) -> None:
    """The file on a stolen disk proves nobody."""
    kit.enrolled()
    thief = gate_kit(kit.path, kit.clock, credential=bytes(32))
    assert thief.attempts.begin(1001).token is None
    thief.database.close()


def test_unlocking_forgets_failures(kit: GateKit) -> None:
    """A security officer lets somebody try again."""
    kit.enrolled()
    for _ in range(MAX_FAILURES):
        assert kit.attempts.begin(1001).admitted
    assert kit.users.by_name("doctor1").state == "locked"
    assert not kit.attempts.begin(1001).admitted
    assert kit.users.unlock("doctor1").state == "active"
    assert kit.attempts.begin(1001).admitted


def test_commits_are_synced(kit: GateKit) -> None:
    """WAL, with a sync at each commit: what limits an attacker survives a power failure."""
    with kit.database.transaction() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_file_of_a_later_version_is_refused(kit: GateKit) -> None:
    """An old program does not write into what it does not know."""
    with sqlite3.connect(kit.path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(RepositoryTooNew, match="version 2"):
        Database(kit.path)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 300])
def test_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged file is an error, and stays as it is."""
    path = tmp_path / "damaged.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        Database(path)
    assert path.read_bytes() == content


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    """No directory, no users, said in words."""
    with pytest.raises(StoreUnavailable, match="No such file"):
        Database(tmp_path / "nowhere" / "users.db")


def test_failed_transaction_changes_nothing(kit: GateKit) -> None:
    """What raises half-way is undone, and the next transaction works."""
    kit.enrolled()

    def fail() -> None:
        with kit.database.transaction() as db:
            db.execute("UPDATE users SET failures = 5")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert kit.failures() == 0


def test_two_processes_may_start_at_once(tmp_path: Path) -> None:
    """Both find the schema, whoever made it."""
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Database(tmp_path / "users.db").close()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
